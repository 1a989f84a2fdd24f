//! What the commands say of themselves, and to those who call them wrongly.

use crate::{
    cli::{
        JWT_SECRET,
        process::{Place, jangbu},
        servers::url,
    },
    database::Database,
};

#[tokio::test]
async fn the_commands_explain_themselves() {
    let place = Place::new();
    let commands: [(&[&str], &[&str]); 4] = [
        (
            &["rebuild"],
            &["--partitions", "--throttle", "--rollback", "--json", "goes on"],
        ),
        (&["verify"], &["--repair", "--json", "the log once more"]),
        (&["builds"], &["drop", "--json"]),
        (&["builds", "drop"], &["SCHEMA", "--old-version"]),
    ];
    for (command, words) in commands {
        let help = jangbu(&place, &[command, &["--help"]].concat(), &[]).await;
        for word in words {
            assert!(
                help.stdout.contains(word),
                "{command:?} does not say {word}:\n{}",
                help.stdout
            );
        }
        let longest = help.stdout.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(120), "{command:?} has long lines:\n{}", help.stdout);
    }
}

#[tokio::test]
async fn wrong_names_and_arguments_are_one_line_and_change_nothing() {
    let (place, database) = (Place::new(), Database::create().await);
    let url = url(&database);
    let environment = [("DATABASE_URL", url.as_str()), ("JANGBU_JWT_SECRET", JWT_SECRET)];
    let cases: [(&[&str], i32, &str); 11] = [
        (&["rebuild"], 2, "<PROJECTION>"),
        (
            &["rebuild", "orders"],
            2,
            "there is no projection `orders`; there are catalog",
        ),
        (&["verify", "orders"], 2, "there is no projection `orders`"),
        (
            &["rebuild", "sales", "--partitions", "3"],
            2,
            "1, 2, 4, 8, 16, 32 or 64",
        ),
        (
            &["rebuild", "sales", "--partitions", "128"],
            2,
            "1, 2, 4, 8, 16, 32 or 64",
        ),
        (&["rebuild", "sales", "--throttle", "0"], 2, "--throttle"),
        (
            &["rebuild", "sales", "--rollback", "--partitions", "2"],
            2,
            "--partitions",
        ),
        (
            &["rebuild", "sales", "--rollback"],
            2,
            "there is no build to go back to",
        ),
        (&["verify", "sales"], 1, "sales has no build yet"),
        (&["builds", "drop", "sales_v1_b1"], 2, "there is no build sales_v1_b1"),
        (&["builds", "drop", "public"], 2, "there is no build public"),
    ];
    for (arguments, code, words) in cases {
        let refused = jangbu(&place, arguments, &environment).await;
        assert_eq!(refused.code, code, "{arguments:?}: {}", refused.stderr);
        assert_eq!(refused.stdout, "", "{arguments:?}");
        assert!(refused.stderr.contains(words), "{arguments:?}: {}", refused.stderr);
    }
    let listed = jangbu(&place, &["builds"], &environment).await;
    assert_eq!((listed.code, listed.stdout.as_str()), (0, "nothing was built yet\n"));
    // An empty log is built, and proven, as any other.
    let rebuilt = jangbu(&place, &["rebuild", "sales"], &environment).await;
    assert!(
        rebuilt.stdout.starts_with("sales_v1_b1 is read, up to position 0\n"),
        "{rebuilt:?}"
    );
    let verified = jangbu(&place, &["verify", "sales"], &environment).await;
    assert_eq!(
        verified.stdout,
        "sales_v1_b1 is what the log says, with its partitions at 0, 0, 0, 0\n"
    );
    let refused = jangbu(&place, &["builds", "drop", "sales_v1_b1"], &environment).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is what queries read"), "{}", refused.stderr);
}
