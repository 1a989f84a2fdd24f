//! However PortOne's state was learnt, the money events are the same bytes.

use proptest::{prelude::*, sample::Index};

use super::*;

/// What PortOne says after each thing that happens there, the last of it final: attempts that fail
/// or get an account, then money right or wrong, then cancellations in parts.
#[derive(Debug, Clone)]
struct Story {
    readings: Vec<Observation>,
}

fn any_story() -> impl Strategy<Value = Story> {
    let before = proptest::collection::vec(0_u8..3, 0..4);
    let money = prop_oneof![
        4 => Just(("KRW", DUE, ChannelType::Live)),
        1 => Just(("KRW", DUE, ChannelType::Test)),
        1 => Just(("KRW", DUE - 1, ChannelType::Live)),
        1 => Just(("USD", DUE, ChannelType::Live)),
    ];
    let cancelled = proptest::collection::vec(1_i64..9_000, 0..5);
    (before, money, cancelled).prop_map(|(before, (currency, total, channel), cancelled)| {
        let mut readings: Vec<Observation> = (0..)
            .zip(before)
            .map(|(n, kind)| match kind {
                0 => pending(&format!("t{n}")),
                1 => failed(&format!("t{n}")),
                _ => account_issued(&format!("t{n}")),
            })
            .collect();
        let mut reading = Observation {
            currency: currency.to_owned(),
            total,
            ..over(channel, paid("t-paid"))
        };
        readings.push(reading.clone());
        let mut left = total;
        for (n, amount) in (1..).zip(cancelled) {
            let amount = amount.min(left);
            if amount == 0 {
                break;
            }
            left -= amount;
            // The order in the list means nothing.
            let place = reading.cancellations.len() / 2;
            reading.cancellations.insert(place, cancellation(n, amount));
            readings.push(reading.clone());
        }
        Story { readings }
    })
}

/// Something that happens to the payment besides: it must not change what is said of money.
#[derive(Debug, Clone)]
enum Step {
    Read(Index),
    Refund(u32, Option<i64>),
    Fail(u32),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<Index>().prop_map(Step::Read),
        1 => (1_u32..4, proptest::option::of(1_i64..DUE)).prop_map(|(n, amount)| Step::Refund(n, amount)),
        1 => (1_u32..4).prop_map(Step::Fail),
    ]
}

/// Confirmed, refused and cancelled, as they are stored.
fn money_events(commands: impl IntoIterator<Item = PaymentCommand>) -> Vec<String> {
    let mut payment: Payment = folded([requested()]);
    let mut stored = Vec::new();
    for command in commands {
        // A refund that is refused changes nothing; a reading never is.
        let Ok(events) = payment.decide(&command) else {
            continue;
        };
        for event in events {
            payment.apply(event.clone());
            let of_money = matches!(
                event,
                PaymentEvent::Confirmed { .. } | PaymentEvent::Refused { .. } | PaymentEvent::Cancelled { .. }
            );
            if of_money {
                stored.push(serde_json::to_string(&event).unwrap());
            }
        }
    }
    stored
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn however_it_was_learnt_the_money_events_are_the_same_bytes(
        story in any_story(),
        steps in proptest::collection::vec(any_step(), 0..24),
        final_at in any::<Index>(),
    ) {
        let last = story.readings.last().unwrap().clone();
        let told_at_once = money_events([observe(last.clone())]);
        let mut commands: Vec<PaymentCommand> = steps
            .iter()
            .map(|step| match step {
                Step::Read(index) => observe(index.get(&story.readings).clone()),
                Step::Refund(n, amount) => refund(*n, *amount),
                Step::Fail(n) => failure(*n),
            })
            .collect();
        commands.insert(final_at.index(commands.len() + 1), observe(last.clone()));
        prop_assert_eq!(&money_events(commands), &told_at_once);
        prop_assert_eq!(told_at_once.len(), 1 + last.cancellations.len());
    }

    #[test]
    fn what_came_is_what_went_back_and_what_is_left(story in any_story()) {
        let last = story.readings.last().unwrap().clone();
        let mut payment: Payment = folded([requested()]);
        for event in payment.decide(&observe(last.clone())).unwrap() {
            if let PaymentEvent::Cancelled { cancelled_total, remaining, .. } = event {
                prop_assert_eq!(cancelled_total + remaining, last.total);
            }
            payment.apply(event);
        }
        let back: i64 = last.cancellations.iter().map(|cancellation| cancellation.amount).sum();
        prop_assert_eq!(payment.refundable() + back, last.total);
    }
}
