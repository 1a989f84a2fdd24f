use chrono::TimeDelta;

use super::*;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const PAID: &str = r#"{"type":"Transaction.Paid","timestamp":"2024-04-25T10:00:00.000Z","data":{"paymentId":"order-0001","storeId":"store-ae356798-3d20-4969-b739-14c6b0e1a667","transactionId":"55451513-9763-4a7a-bb43-78a4c65be843"}}"#;
const PAID_SIGNATURE: &str = "v1,6z7bJK1IxeIQ6mQcxa2urEkWq2udWBZ5pAXRHq7635U=";
const SIGNED_AT: i64 = 1_714_039_200;

/// (secret, id, timestamp, body, signature): the published vectors.
const VECTORS: [(&str, &str, i64, &str, &str); 3] = [
    (SECRET, "wh_test_0001", SIGNED_AT, PAID, PAID_SIGNATURE),
    (
        SECRET,
        "wh_test_0002",
        1_714_039_201,
        r#"{"type":"Transaction.Paid","memo":"결제"}"#,
        "v1,LanhxX+JoFmbV+76FJgyu6SXphflaIuvsmn1GRJ5vp0=",
    ),
    (
        OTHER_SECRET,
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1_649_367_553,
        r#"{"email":"test@example.com","username":"test_user"}"#,
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
];

fn verifier(secrets: &[&str]) -> Verifier {
    let secrets: Vec<String> = secrets.iter().map(ToString::to_string).collect();
    Verifier::try_new(&secrets, TOLERANCE).expect("usable secrets")
}

fn at(timestamp: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(timestamp, 0).expect("a time")
}

/// The first vector's webhook, with its signature header replaced.
fn paid(signature: &str) -> Result<(), SignatureError> {
    let headers = SignatureHeaders {
        id: Some("wh_test_0001"),
        timestamp: Some("1714039200"),
        signature: Some(signature),
    };
    verifier(&[SECRET]).verify(headers, PAID.as_bytes(), at(SIGNED_AT))
}

#[test]
fn the_published_vectors_verify_and_are_what_we_sign() {
    for (secret, id, timestamp, body, signature) in VECTORS {
        assert_eq!(sign(secret, id, timestamp, body.as_bytes()).as_deref(), Ok(signature));
        let text = timestamp.to_string();
        let headers = SignatureHeaders {
            id: Some(id),
            timestamp: Some(&text),
            signature: Some(signature),
        };
        assert_eq!(
            verifier(&[secret]).verify(headers, body.as_bytes(), at(timestamp)),
            Ok(())
        );
    }
}

#[test]
fn either_secret_may_have_signed_and_a_foreign_one_may_not() {
    let headers = SignatureHeaders {
        id: Some("wh_test_0001"),
        timestamp: Some("1714039200"),
        signature: Some(PAID_SIGNATURE),
    };
    let verify = |secrets: &[&str]| verifier(secrets).verify(headers, PAID.as_bytes(), at(SIGNED_AT));
    assert_eq!(verify(&[OTHER_SECRET, SECRET]), Ok(()));
    assert_eq!(verify(&[SECRET, OTHER_SECRET]), Ok(()));
    assert_eq!(verify(&[OTHER_SECRET]), Err(SignatureError::NoMatch));
}

#[test]
fn an_altered_body_id_or_timestamp_does_not_match() {
    let verify = |id: &str, timestamp: &str, body: &str| {
        let headers = SignatureHeaders {
            id: Some(id),
            timestamp: Some(timestamp),
            signature: Some(PAID_SIGNATURE),
        };
        verifier(&[SECRET]).verify(headers, body.as_bytes(), at(SIGNED_AT))
    };
    assert_eq!(verify("wh_test_0001", "1714039200", PAID), Ok(()));
    assert_eq!(
        verify("wh_test_0001", "1714039200", &format!("{PAID}\n")),
        Err(SignatureError::NoMatch)
    );
    assert_eq!(
        verify("wh_test_0001", "1714039200", &PAID.replace("0001", "0002")),
        Err(SignatureError::NoMatch)
    );
    assert_eq!(verify("wh_test_0002", "1714039200", PAID), Err(SignatureError::NoMatch));
    assert_eq!(verify("wh_test_0001", "1714039201", PAID), Err(SignatureError::NoMatch));
    assert_eq!(
        verify("wh_test_0001", "01714039200", PAID),
        Err(SignatureError::NoMatch)
    );
}

#[test]
fn one_valid_entry_of_several_is_enough() {
    assert_eq!(paid(&format!("{PAID_SIGNATURE} {PAID_SIGNATURE}")), Ok(()));
    assert_eq!(paid(&format!("v1,AAAA v2,whatever {PAID_SIGNATURE}")), Ok(()));
    assert_eq!(paid(&format!("v1a,zzz v1,!!! {PAID_SIGNATURE} ")), Ok(()));
}

#[test]
fn other_versions_and_broken_entries_never_match() {
    let encoded = PAID_SIGNATURE.strip_prefix("v1,").expect("a v1 signature");
    for version in ["v2,", "v1a,", "V1,", "v1", "v1,,", ""] {
        assert_eq!(
            paid(&format!("{version}{encoded}")),
            Err(SignatureError::NoMatch),
            "{version}"
        );
    }
    let short = BASE64.encode(&BASE64.decode(encoded).expect("base64")[..31]);
    for entry in ["v1,", "v1, ", &format!("v1,{short}"), &PAID_SIGNATURE.replace('6', "7")] {
        assert_eq!(paid(entry), Err(SignatureError::NoMatch), "{entry}");
    }
}

#[test]
fn padding_makes_no_difference() {
    assert_eq!(paid(PAID_SIGNATURE.trim_end_matches('=')), Ok(()));
    let unpadded = SECRET.trim_end_matches('=');
    assert_eq!(
        sign(unpadded, "wh_test_0001", SIGNED_AT, PAID.as_bytes()).as_deref(),
        Ok(PAID_SIGNATURE)
    );
    let bare = SECRET.strip_prefix(SECRET_PREFIX).expect("a prefix");
    assert_eq!(
        sign(bare, "wh_test_0001", SIGNED_AT, PAID.as_bytes()).as_deref(),
        Ok(PAID_SIGNATURE)
    );
}

#[test]
fn five_minutes_either_way_are_near_enough_and_a_second_more_is_not() {
    let headers = SignatureHeaders {
        id: Some("wh_test_0001"),
        timestamp: Some("1714039200"),
        signature: Some(PAID_SIGNATURE),
    };
    let verify = |seconds: i64| {
        let now = at(SIGNED_AT) + TimeDelta::seconds(seconds);
        verifier(&[SECRET]).verify(headers, PAID.as_bytes(), now)
    };
    assert_eq!(verify(300), Ok(()));
    assert_eq!(verify(-300), Ok(()));
    assert_eq!(verify(301), Err(SignatureError::Expired { seconds_ago: 301 }));
    assert_eq!(verify(-301), Err(SignatureError::Expired { seconds_ago: -301 }));
}

#[test]
fn a_timestamp_is_digits_only() {
    for timestamp in [
        "now",
        "1714039200.5",
        "+1714039200",
        "-1714039200",
        " 1714039200",
        "99999999999999999999",
    ] {
        let headers = SignatureHeaders {
            id: Some("a"),
            timestamp: Some(timestamp),
            signature: Some(PAID_SIGNATURE),
        };
        let verdict = verifier(&[SECRET]).verify(headers, PAID.as_bytes(), at(SIGNED_AT));
        assert_eq!(verdict, Err(SignatureError::Malformed(TIMESTAMP)), "{timestamp}");
    }
}

#[test]
fn each_header_is_needed_and_bounded() {
    let whole = SignatureHeaders {
        id: Some("wh_test_0001"),
        timestamp: Some("1714039200"),
        signature: Some(PAID_SIGNATURE),
    };
    let verify = |headers| verifier(&[SECRET]).verify(headers, PAID.as_bytes(), at(SIGNED_AT));
    assert_eq!(verify(whole), Ok(()));
    for nothing in [None, Some("")] {
        assert_eq!(
            verify(SignatureHeaders { id: nothing, ..whole }),
            Err(SignatureError::Missing(ID))
        );
        assert_eq!(
            verify(SignatureHeaders {
                timestamp: nothing,
                ..whole
            }),
            Err(SignatureError::Missing(TIMESTAMP))
        );
        assert_eq!(
            verify(SignatureHeaders {
                signature: nothing,
                ..whole
            }),
            Err(SignatureError::Missing(SIGNATURE))
        );
    }
    let (fits, too_long) = ("i".repeat(255), "i".repeat(256));
    assert_eq!(
        verify(SignatureHeaders {
            id: Some(&fits),
            ..whole
        }),
        Err(SignatureError::NoMatch)
    );
    assert_eq!(
        verify(SignatureHeaders {
            id: Some(&too_long),
            ..whole
        }),
        Err(SignatureError::Malformed(ID))
    );
    let many = [PAID_SIGNATURE; 30].join(" ");
    assert_eq!(
        verify(SignatureHeaders {
            signature: Some(&many),
            ..whole
        }),
        Err(SignatureError::Malformed(SIGNATURE))
    );
}

#[test]
fn headers_are_taken_by_any_case_and_a_repeated_one_counts_as_missing() {
    let mut map = HeaderMap::new();
    for (name, value) in [
        ("Webhook-Id", "wh_test_0001"),
        ("WEBHOOK-TIMESTAMP", "1714039200"),
        (SIGNATURE, PAID_SIGNATURE),
    ] {
        let name: reqwest::header::HeaderName = name.parse().expect("a header name");
        map.append(name, value.parse().expect("a header value"));
    }
    let verify =
        |map: &HeaderMap| verifier(&[SECRET]).verify(SignatureHeaders::from_map(map), PAID.as_bytes(), at(SIGNED_AT));
    assert_eq!(verify(&map), Ok(()));
    map.append(ID, "wh_test_0001".parse().expect("a header value"));
    assert_eq!(verify(&map), Err(SignatureError::Missing(ID)));
}

#[test]
fn unusable_secrets_are_refused_at_once() {
    let refusal = |secrets: &[&str]| {
        let secrets: Vec<String> = secrets.iter().map(ToString::to_string).collect();
        Verifier::try_new(&secrets, TOLERANCE).expect_err("an unusable secret")
    };
    assert_eq!(refusal(&[]), SecretError::None);
    assert_eq!(refusal(&[""]), SecretError::Empty);
    assert_eq!(refusal(&[SECRET, "whsec_"]), SecretError::Empty);
    assert_eq!(refusal(&["whsec_not base64!"]), SecretError::NotBase64);
    assert_eq!(sign("whsec_", "a", 0, b""), Err(SecretError::Empty));
}

#[test]
fn a_verifier_shows_no_key() {
    let shown = format!("{:?}", verifier(&[SECRET]));
    assert_eq!(shown, "Verifier { keys: [redacted], tolerance: 300s }");
}
