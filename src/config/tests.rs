use std::os::unix::fs::PermissionsExt as _;

use super::*;

const JWT: &str = "0123456789abcdef0123456789abcdef";
const WEBHOOK: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const LIVE: &[(&str, &str)] = &[
    ("JANGBU_LIVE", "true"),
    ("PORTONE_API_SECRET", "api-secret"),
    ("PORTONE_STORE_ID", "store-1"),
    ("PORTONE_CHANNEL_KEY", "channel-1"),
    ("PORTONE_WEBHOOK_SECRETS", WEBHOOK),
    (
        "JANGBU_MASTER_KEY",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    ),
];

fn config(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_vars(|name| {
        vars.iter()
            .rev()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn refusal(vars: &[(&str, &str)]) -> String {
    config(vars).unwrap_err().to_string()
}

#[test]
fn without_any_variable_the_embedded_default_starts() {
    let config = config(&[]).unwrap();
    assert_eq!(config.database, Database::Embedded);
    assert_eq!(config.amqp_url, None);
    assert_eq!(config.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.public_url, "http://127.0.0.1:8080");
    assert_eq!(config.data_dir, PathBuf::from("./.jangbu"));
    assert!(!config.live);
    assert_eq!(config.portone.api, None);
    assert_eq!(
        config.portone.missing,
        ["PORTONE_API_SECRET", "PORTONE_STORE_ID", "PORTONE_CHANNEL_KEY"]
    );
    assert_eq!(config.payment_deadline, Duration::from_secs(1_800));
    assert_eq!(config.partitions, 4);
    assert_eq!(config.log, LogFormat::Text);
}

#[test]
fn an_empty_value_counts_as_unset() {
    let empty: Vec<_> = VARIABLES.iter().map(|name| (*name, " ")).collect();
    assert_eq!(config(&empty), config(&[]));
}

#[test]
fn beside_a_database_url_only_the_jwt_secret_is_required() {
    let url = ("DATABASE_URL", "postgres://jangbu:hunter2@db/jangbu");
    assert_eq!(
        refusal(&[url]),
        "JANGBU_JWT_SECRET is required when DATABASE_URL is set (at least 32 bytes)"
    );
    assert_eq!(
        refusal(&[url, ("JANGBU_JWT_SECRET", &JWT[1..])]),
        "JANGBU_JWT_SECRET must have at least 32 bytes"
    );
    let config = config(&[url, ("JANGBU_JWT_SECRET", JWT)]).unwrap();
    assert_eq!(config.database, Database::Url(Secret::new(url.1)));
    assert_eq!(config.jwt_secret.unwrap().expose(), JWT);
}

#[test]
fn a_senseless_value_is_one_line_that_names_the_variable_and_hides_the_value() {
    let cases = [
        ("DATABASE_URL", "mysql://root:hunter2@db/shop"),
        ("DATABASE_URL", "hunter2"),
        ("DATABASE_URL", "postgres://jangbu:hunter2@db:99999/jangbu"),
        ("AMQP_URL", "http://guest:hunter2@mq"),
        ("JANGBU_BIND", "hunter2"),
        ("JANGBU_BIND", "127.0.0.1"),
        ("JANGBU_PUBLIC_URL", "ftp://hunter2"),
        ("JANGBU_PUBLIC_URL", "https://shop.example/?hunter2"),
        ("JANGBU_JWT_SECRET", "hunter2"),
        ("JANGBU_MASTER_KEY", "hunter2"),
        ("JANGBU_MASTER_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZQ=="),
        ("JANGBU_TOKEN_KEYS", "hunter2"),
        ("JANGBU_TOKEN_KEYS", "2026:hs256:hunter2"),
        (
            "JANGBU_TOKEN_KEYS",
            "a:hs256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=,hunter2",
        ),
        ("JANGBU_ACCESS_TOKEN_MINUTES", "0"),
        ("JANGBU_ACCESS_TOKEN_MINUTES", "61"),
        ("JANGBU_SESSION_IDLE_DAYS", "366"),
        ("JANGBU_SESSION_DAYS", "29"),
        ("JANGBU_PASSWORD_THREADS", "0"),
        ("JANGBU_SMTP_URL", "https://hunter2@mail.example"),
        ("JANGBU_SMTP_URL", "smtp://jangbu:hunter2@mail.example/?tls=none"),
        ("JANGBU_LIVE", "yes"),
        ("PORTONE_API_BASE", "https://user:hunter2@api.portone.io"),
        ("PORTONE_WEBHOOK_SECRETS", "hunter2"),
        ("PORTONE_WEBHOOK_SECRETS", "whsec_"),
        ("PORTONE_WEBHOOK_SECRETS", "whsec_hunter2!"),
        ("PORTONE_WEBHOOK_SECRETS", "whsec_MDEyMzQ1Njc4OWFiY2RlZg==,hunter2"),
        ("JANGBU_KAKAO_BASE", "ftp://hunter2"),
        ("JANGBU_GOOGLE_BASE", "https://root:hunter2@accounts.google.com"),
        ("JANGBU_PAYMENT_DEADLINE_MINUTES", "0"),
        ("JANGBU_PARTITIONS", "3"),
        ("JANGBU_PARTITIONS", "128"),
        ("JANGBU_DB_POOL_MAX", "1"),
        ("JANGBU_READY_LAG_MAX_SECONDS", "-1"),
        ("JANGBU_RATE_REQUESTS_PER_MINUTE", "many"),
        ("JANGBU_METRICS_BIND", "9100"),
        ("JANGBU_METRICS_BIND", "localhost:9100"),
        ("JANGBU_LOG", "xml"),
    ];
    for (variable, value) in cases {
        let line = refusal(&[(variable, value)]);
        assert!(line.starts_with(&format!("{variable} ")), "{variable}={value}: {line}");
        assert!(!line.contains("hunter2"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn a_login_provider_is_there_when_it_has_a_client_id() {
    assert_eq!(config(&[]).unwrap().logins, []);
    let both = [
        ("JANGBU_PUBLIC_URL", "https://shop.example/"),
        ("JANGBU_KAKAO_CLIENT_ID", "rest-api-key"),
        ("JANGBU_KAKAO_SCOPES", "openid,account_email  name"),
        ("JANGBU_GOOGLE_CLIENT_ID", "shop.apps.googleusercontent.com"),
        ("JANGBU_GOOGLE_CLIENT_SECRET", "hunter2"),
        ("JANGBU_GOOGLE_BASE", "http://127.0.0.1:9090/google/"),
    ];
    let logins = config(&both).unwrap().logins;
    let [kakao, google] = &logins[..] else {
        panic!("{logins:?}");
    };
    assert_eq!(kakao.bases, oauth::Bases::real(oauth::Provider::Kakao));
    assert_eq!(kakao.redirect_uri, "https://shop.example/api/v1/auth/kakao/callback");
    assert_eq!(kakao.scopes, "openid account_email name");
    assert_eq!(google.bases, oauth::Bases::under("http://127.0.0.1:9090/google"));
    assert!(!format!("{logins:?}").contains("hunter2"));

    for (vars, line) in [
        (
            &[("JANGBU_NAVER_CLIENT_ID", "n")][..],
            "JANGBU_NAVER_CLIENT_SECRET is required when JANGBU_NAVER_CLIENT_ID is set",
        ),
        (
            &[("JANGBU_KAKAO_CLIENT_SECRET", "hunter2")],
            "JANGBU_KAKAO_CLIENT_ID is required when JANGBU_KAKAO_CLIENT_SECRET is set",
        ),
        (
            &[("JANGBU_KAKAO_CLIENT_ID", "k"), ("JANGBU_KAKAO_ADMIN_KEY", "hunter 2")],
            "JANGBU_KAKAO_ADMIN_KEY must be plain ASCII text without spaces",
        ),
        (
            &[("JANGBU_KAKAO_CLIENT_ID", "k"), ("JANGBU_KAKAO_SCOPES", "openid&x")],
            "JANGBU_KAKAO_SCOPES must be Kakao's names of consent items, with spaces between them",
        ),
    ] {
        assert_eq!(refusal(vars), line);
    }
    let live = [LIVE, &[("JANGBU_KAKAO_BASE", "http://kakao.example")]].concat();
    assert_eq!(
        refusal(&live),
        "JANGBU_KAKAO_BASE must begin with https:// when JANGBU_LIVE is true"
    );
}

#[test]
fn a_live_shop_leaves_nothing_to_defaults() {
    let live = config(LIVE).unwrap();
    assert!(live.live);
    assert_eq!(live.master_key.unwrap().expose()[31], 0x1f);
    let api = live.portone.api.unwrap();
    assert_eq!(
        (api.base.as_str(), api.store_id.as_str()),
        ("https://api.portone.io", "store-1")
    );
    assert_eq!(live.portone.webhook_secrets[0].key(), JWT.as_bytes());
    for (variable, _) in &LIVE[1..] {
        let without: Vec<_> = LIVE.iter().copied().filter(|(name, _)| name != variable).collect();
        assert_eq!(
            refusal(&without),
            format!("{variable} is required when JANGBU_LIVE is true")
        );
    }
}

#[test]
fn accounts_work_without_any_variable_and_a_mail_server_needs_a_sender() {
    let accounts = config(&[]).unwrap().accounts;
    assert!(accounts.token_keys.is_empty());
    assert_eq!(accounts.access_token, Duration::from_secs(900));
    assert!(accounts.access_token <= Accounts::ACCESS_TOKEN_MAX);
    assert_eq!(accounts.sessions.idle, chrono::TimeDelta::days(30));
    let long = config(&[("JANGBU_SESSION_IDLE_DAYS", "365")])
        .unwrap()
        .accounts
        .sessions;
    assert_eq!(long.total, long.idle, "an idle time alone needs no second variable");

    let url = ("JANGBU_SMTP_URL", "smtp://mail.example:587");
    assert_eq!(
        refusal(&[url]),
        "JANGBU_MAIL_FROM is required when JANGBU_SMTP_URL is set"
    );
    let line = refusal(&[url, ("JANGBU_MAIL_FROM", "hunter2")]);
    assert!(
        line.starts_with("JANGBU_MAIL_FROM must be") && !line.contains("hunter2"),
        "{line}"
    );
    let server = config(&[url, ("JANGBU_MAIL_FROM", "장부 <no-reply@shop.example>")]).unwrap();
    assert_eq!(server.mail_server.unwrap().url.expose(), url.1);
    assert_eq!(
        config(&[("JANGBU_MAIL_FROM", "no-reply@shop.example")])
            .unwrap()
            .mail_server,
        None
    );
}

#[test]
fn half_a_portone_configuration_says_what_is_missing_and_keeps_the_webhook() {
    let portone = config(&[
        ("PORTONE_API_SECRET", "s"),
        ("PORTONE_WEBHOOK_SECRETS", &format!("{WEBHOOK}, {WEBHOOK}")),
    ])
    .unwrap()
    .portone;
    assert_eq!(portone.api, None);
    assert_eq!(portone.missing, ["PORTONE_STORE_ID", "PORTONE_CHANNEL_KEY"]);
    assert_eq!(portone.api_secret, Some(Secret::new("s")));
    assert_eq!(portone.webhook_secrets.len(), 2);
}

#[test]
fn a_master_key_is_the_same_in_base64_and_in_hex() {
    let hex = MasterKey::parse("000102030405060708090A0B0C0D0E0F101112131415161718191a1b1c1d1e1f").unwrap();
    for base64 in [
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    ] {
        assert_eq!(MasterKey::parse(base64), Some(hex.clone()));
    }
}

#[test]
fn urls_lose_the_slash_at_their_end_and_a_wildcard_address_becomes_one_that_opens() {
    let vars = [
        ("PORTONE_API_BASE", "http://127.0.0.1:9090/"),
        ("JANGBU_BIND", "0.0.0.0:80"),
    ];
    let config = config(&[&vars[..], &LIVE[1..]].concat()).unwrap();
    assert_eq!(config.portone.api.unwrap().base, "http://127.0.0.1:9090");
    assert_eq!(config.public_url, "http://127.0.0.1:80");
}

#[test]
fn a_rate_of_zero_is_no_limit() {
    let config = config(&[("JANGBU_RATE_REQUESTS_PER_MINUTE", "0")]).unwrap();
    assert_eq!(config.rate_limits.requests_per_minute, None);
    assert_eq!(config.rate_limits.lookups_per_minute, Some(10));
}

#[test]
fn debug_shows_no_secret() {
    let url = [
        ("DATABASE_URL", "postgres://jangbu:hunter2@db/jangbu"),
        ("AMQP_URL", "amqp://guest:hunter2@mq"),
    ];
    let accounts = [
        (
            "JANGBU_TOKEN_KEYS",
            "a:hs256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        ),
        ("JANGBU_SMTP_URL", "smtps://jangbu:hunter2@mail.example"),
        ("JANGBU_MAIL_FROM", "no-reply@shop.example"),
    ];
    let config = config(&[&url[..], LIVE, &accounts, &[("JANGBU_JWT_SECRET", JWT)]].concat()).unwrap();
    let keys = config.keys(|_| unreachable!("both keys are configured")).unwrap();
    let shown = format!("{config:?} {keys:?}");
    for hidden in ["hunter2", "api-secret", "whsec_", JWT, "30, 31", "AAECAw"] {
        assert!(!shown.contains(hidden), "{hidden} is in {shown}");
    }
    assert_eq!(shown.matches("[redacted]").count(), 11, "{shown}");
}

#[test]
fn keys_that_nobody_gave_are_made_once_for_their_owner_alone() {
    let dir = Dir::new("keys");
    let config = config(&[("JANGBU_DATA_DIR", dir.0.join("new/data").to_str().unwrap())]).unwrap();
    let made = config.keys(|bytes| bytes.fill(7)).unwrap();
    assert_eq!(made.master.expose(), &[7; 32]);
    assert_eq!(config.keys(|_| unreachable!("the keys are there")).unwrap(), made);
    for name in ["jwt.secret", "master.key"] {
        let permissions = std::fs::metadata(config.data_dir.join(name)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
    }
    assert_eq!(
        std::fs::read_dir(&config.data_dir).unwrap().count(),
        2,
        "no draft is left behind"
    );
}

#[test]
fn processes_that_start_at_once_end_with_the_same_keys() {
    let dir = Dir::new("race");
    let config = config(&[("JANGBU_DATA_DIR", dir.0.to_str().unwrap())]).unwrap();
    // Another process makes the key while this one is about to.
    let ours = config
        .keys(|bytes| {
            bytes.fill(1);
            if !config.data_dir.join("jwt.secret").exists() {
                std::fs::write(config.data_dir.join("jwt.secret"), "b".repeat(44)).unwrap();
            }
        })
        .unwrap();
    assert_eq!(ours.jwt.expose(), "b".repeat(44));
}

#[test]
fn a_damaged_key_file_is_refused_and_not_replaced() {
    let dir = Dir::new("damaged");
    let config = config(&[("JANGBU_DATA_DIR", dir.0.to_str().unwrap())]).unwrap();
    std::fs::write(dir.0.join("jwt.secret"), "").unwrap();
    let line = config
        .keys(|_| unreachable!("a key file is never overwritten"))
        .unwrap_err()
        .to_string();
    assert!(
        line.starts_with("JANGBU_DATA_DIR ") && line.contains("jwt.secret is too short"),
        "{line}"
    );
}

#[test]
fn the_env_file_is_read_strictly() {
    let text = "# comment\n\nA=1\nexport B = two words # comment\nC='#x $y'\nD=\"\"\nE=a#b\nF=#\nG='q' # comment\n";
    let variables = dotenv::parse(text).unwrap();
    let expected = [
        ("A", "1"),
        ("B", "two words"),
        ("C", "#x $y"),
        ("D", ""),
        ("E", "a#b"),
        ("F", ""),
        ("G", "q"),
    ];
    assert_eq!(variables.len(), expected.len());
    for (name, value) in expected {
        assert_eq!(variables[name], value, "{name}");
    }
    for (wrong, line) in [
        ("A=1\nhunter2", 2),
        ("A B=hunter2", 1),
        ("A='hunter2", 1),
        ("A=1\nA=hunter2", 2),
        ("A='x'y", 1),
    ] {
        let error = dotenv::parse(wrong).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!(".env line {line} ")) && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn a_directory_without_an_env_file_has_no_variables() {
    assert!(dotenv::read(Path::new("/nonexistent/.env")).unwrap().is_empty());
    assert!(
        dotenv::read(Path::new("/"))
            .unwrap_err()
            .to_string()
            .starts_with(".env cannot be read")
    );
}

#[test]
fn the_example_file_documents_every_variable_with_a_value_that_passes() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example")).unwrap();
    let documented: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='))
        .map(|(name, _)| name)
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .collect();
    let (ours, compose) = documented.split_at(VARIABLES.len());
    assert_eq!(ours, VARIABLES);
    assert_eq!(compose, ["POSTGRES_PASSWORD", "RABBITMQ_PASSWORD"]);
    // As it stands the file changes nothing.
    let as_it_stands = dotenv::parse(&text).unwrap();
    assert_eq!(Config::from_vars(|name| as_it_stands.get(name).cloned()), config(&[]));
    // With every example switched on it is a valid configuration as well.
    let on: String = text
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let on = dotenv::parse(&on).unwrap();
    let config = Config::from_vars(|name| on.get(name).cloned()).unwrap();
    assert!(config.portone.api.is_some() && config.amqp_url.is_some() && config.master_key.is_some());
}

/// A directory of this test's own below the system's temporary one; removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("jangbu-config-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
