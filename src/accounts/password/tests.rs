use std::time::Instant;

use super::*;
use crate::clock::{ManualClock, SeededIds};

fn surroundings() -> Surroundings {
    Surroundings {
        clock: Arc::new(ManualClock::new(
            jangbu_events::Timestamp::from_timestamp(1_700_000_000, 0).unwrap(),
        )),
        ids: Arc::new(SeededIds::new(1)),
    }
}

fn cheap(threads: usize) -> Passwords {
    Passwords::with_params(threads, Params::new(64, 1, 1, None).unwrap(), &surroundings())
}

fn good(password: &str) -> NewPassword {
    check(password, About::default()).unwrap()
}

#[tokio::test]
async fn a_password_is_right_or_wrong_and_its_hash_says_how_it_was_made() {
    let passwords = Passwords::new(1, &surroundings());
    let phc = passwords
        .hash(&surroundings(), &good("velvet-oyster-lamp"))
        .await
        .unwrap();
    assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
    let right = Ok(Verdict::Right { outdated: false });
    assert_eq!(passwords.verify("velvet-oyster-lamp", Some(phc.clone())).await, right);
    assert_eq!(
        passwords.verify("velvet-oyster-lamq", Some(phc.clone())).await,
        Ok(Verdict::Wrong)
    );
    assert_eq!(passwords.verify("velvet-oyster-lamp", None).await, Ok(Verdict::Wrong));
    assert_eq!(
        passwords.verify("", Some("not a hash".to_owned())).await,
        Ok(Verdict::Wrong)
    );
    assert_eq!(
        passwords.verify(&"x".repeat(100_000), Some(phc)).await,
        Ok(Verdict::Wrong)
    );
}

#[tokio::test]
async fn a_hash_of_other_parameters_still_opens_and_asks_to_be_made_anew() {
    let (old, new) = (cheap(1), Passwords::new(1, &surroundings()));
    let phc = old.hash(&surroundings(), &good("velvet-oyster-lamp")).await.unwrap();
    let verdict = new.verify("velvet-oyster-lamp", Some(phc)).await;
    assert_eq!(verdict, Ok(Verdict::Right { outdated: true }));
    let phc = new.hash_again(&surroundings(), "velvet-oyster-lamp").await.unwrap();
    let verdict = new.verify("velvet-oyster-lamp", Some(phc)).await;
    assert_eq!(verdict, Ok(Verdict::Right { outdated: false }));
}

#[tokio::test]
async fn however_it_is_composed_it_is_the_same_password() {
    let passwords = cheap(1);
    let phc = passwords
        .hash(&surroundings(), &good("우리동네 빵집은 아홉시"))
        .await
        .unwrap();
    // The same letters as a Mac's file names have them.
    let decomposed: String = unicode_normalization::UnicodeNormalization::nfd("우리동네 빵집은 아홉시").collect();
    assert_ne!(decomposed, "우리동네 빵집은 아홉시");
    let verdict = passwords.verify(&decomposed, Some(phc)).await;
    assert_eq!(verdict, Ok(Verdict::Right { outdated: false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_from_the_time_whether_there_is_an_account() {
    let passwords = Passwords::new(1, &surroundings());
    let phc = passwords
        .hash(&surroundings(), &good("velvet-oyster-lamp"))
        .await
        .unwrap();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (stored, times) in [Some(phc.clone()), None].into_iter().zip(&mut times) {
            let begun = Instant::now();
            passwords.verify("a wrong password", stored).await.unwrap();
            times.push(begun.elapsed());
        }
    }
    // The fastest of each: other work on the machine only makes it slower.
    let [known, unknown] = times.map(|times| times.into_iter().min().unwrap());
    assert!(known < unknown * 2 && unknown < known * 2, "{known:?} and {unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_turned_away_and_leaves_the_work_bounded() {
    let passwords = cheap(2);
    // Nobody can work, so everybody queues.
    let held = Arc::clone(&passwords.0.working).acquire_many_owned(2).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let passwords = passwords.clone();
        waiting.spawn(async move { passwords.verify("whatever", None).await });
    }
    let turned_away = 100 - 2 * (1 + WAITING_PER_THREAD);
    for _ in 0..turned_away {
        assert_eq!(waiting.join_next().await.unwrap().unwrap(), Err(BUSY));
    }
    drop(held);
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.unwrap(), Ok(Verdict::Wrong));
    }
    assert_eq!(
        passwords.verify("whatever", None).await,
        Ok(Verdict::Wrong),
        "there is room again"
    );
}

#[test]
fn length_counts_in_characters_once_normalised() {
    let refused = |password: &str| check(password, About::default()).err();
    assert_eq!(refused("gh7!mq0zp"), Some(Weakness::TooShort));
    assert_eq!(refused("gh7!mq0zpl"), None);
    assert_eq!(refused("빵집은아홉시에연다요"), None);
    // Ten decomposed letters are five syllables.
    let decomposed: String = unicode_normalization::UnicodeNormalization::nfd("빵집아홉시").collect();
    assert!(decomposed.chars().count() >= LENGTH_MIN);
    assert_eq!(refused(&decomposed), Some(Weakness::TooShort));
    let long: String = "gh7!mq0z".repeat(16);
    assert_eq!(refused(&format!("{long}x")), Some(Weakness::TooLong));
    assert_eq!(refused(&"x".repeat(1_000_000)), Some(Weakness::TooLong));
    assert_eq!(refused("Password2024"), Some(Weakness::Common));
}

#[test]
fn what_others_know_of_its_owner_is_no_password() {
    let about = About {
        email: Some("Minsu.Kim+shop@example.com"),
        phone: Some("+82 10-1234-5678"),
    };
    let refused = |password: &str| check(password, about).err();
    assert_eq!(refused("xx-minsu.kim-9!q"), Some(Weakness::ContainsEmail));
    assert_eq!(refused("xq!01012345678zz"), Some(Weakness::ContainsPhone));
    assert_eq!(refused("xq!1234-5678zzpw"), Some(Weakness::ContainsPhone));
    assert_eq!(refused("velvet-oyster-lamp"), None);
    let short = About {
        email: Some("kim@example.com"),
        phone: None,
    };
    assert_eq!(check("velvet-kimono-lamp", short).err(), None);
    assert_eq!(format!("{:?}", good("velvet-oyster-lamp")), "NewPassword([redacted])");
}
