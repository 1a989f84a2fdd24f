//! Texts that must not be anywhere, however they may be written.

use std::{collections::HashMap, fmt::Write as _};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

/// A search for many texts at once.
pub struct Needles {
    all: Vec<Needle>,
    /// By their first four bytes.
    begins: HashMap<[u8; 4], Vec<usize>>,
    /// Whether any begins with these two bytes; most places are passed over with it.
    maybe: Vec<bool>,
}

struct Needle {
    what: String,
    bytes: Vec<u8>,
    /// Short numbers count only where they stand alone.
    alone: bool,
}

impl Needles {
    /// Of what they are and the texts themselves. Nobody guesses the random ones, so their hashes give
    /// nothing away.
    pub fn of(texts: &[(&str, String)], random: &[(&str, String)]) -> Self {
        let mut all = Vec::new();
        let guessable = texts.iter().map(|text| (text, true));
        for ((what, text), guessable) in guessable.chain(random.iter().map(|text| (text, false))) {
            assert!(text.len() > 4, "{text} would be found by chance");
            for (writing, bytes) in writings(text) {
                if writing.starts_with("hashed") && !guessable {
                    continue;
                }
                all.push(Needle {
                    what: format!("{what} {writing}"),
                    alone: text.len() == 5 && bytes.len() == 5,
                    bytes,
                });
            }
        }
        let mut begins: HashMap<[u8; 4], Vec<usize>> = HashMap::new();
        let mut maybe = vec![false; 1 << 16];
        for (index, needle) in all.iter().enumerate() {
            let first = needle.bytes[..4].try_into().expect("four bytes");
            begins.entry(first).or_default().push(index);
            maybe[usize::from(u16::from_be_bytes([first[0], first[1]]))] = true;
        }
        Self { all, begins, maybe }
    }

    /// What of it is there, each place once.
    pub fn found_in(&self, haystack: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for (at, window) in haystack.windows(4).enumerate() {
            if !self.maybe[usize::from(u16::from_be_bytes([window[0], window[1]]))] {
                continue;
            }
            for index in self.begins.get(window).into_iter().flatten() {
                let needle = &self.all[*index];
                let rest = &haystack[at..];
                if rest.starts_with(&needle.bytes)
                    && !(needle.alone && (joined(haystack[..at].last()) || joined(rest.get(needle.bytes.len()))))
                {
                    let around = &haystack[at.saturating_sub(120)..haystack.len().min(at + 120)];
                    found.push(format!("{} in: {}", needle.what, String::from_utf8_lossy(around)));
                }
            }
        }
        found
    }

    pub fn assert_absent(&self, place: &str, haystack: &[u8]) {
        let found = self.found_in(haystack);
        let some = &found[..found.len().min(3)];
        assert!(found.is_empty(), "{} times in {place}: {some:#?}", found.len());
    }

    /// Otherwise nothing could be found there at all.
    pub fn assert_all_present(&self, place: &str, haystack: &[u8]) {
        let found = self.found_in(haystack);
        for needle in self.all.iter().filter(|needle| needle.what.ends_with("in clear")) {
            assert!(
                found.iter().any(|one| one.starts_with(&needle.what)),
                "{} is not in {place}",
                needle.what
            );
        }
    }
}

/// Whether a digit beside this is part of a longer word or number.
fn joined(beside: Option<&u8>) -> bool {
    beside.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"._+/-".contains(byte))
}

/// A text as programs write it, and its plain hash, which anybody can compute for every phone.
fn writings(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = text.as_bytes();
    let mut all = vec![("in clear", bytes.to_vec())];
    let hash = Sha256::digest(bytes);
    all.push(("hashed", hash.to_vec()));
    let mut add = |writing, text: String| {
        if all.iter().all(|(_, known): &(_, Vec<u8>)| *known != text.as_bytes()) {
            all.push((writing, text.into_bytes()));
        }
    };
    let escaped = |other: fn(u8) -> String| -> String {
        bytes
            .iter()
            .map(|byte| match byte {
                b' '..=b'~' => char::from(*byte).to_string(),
                other_byte => other(*other_byte),
            })
            .collect()
    };
    let units: String = text
        .encode_utf16()
        .map(|unit| match u8::try_from(unit) {
            Ok(byte @ b' '..=b'~') => char::from(byte).to_string(),
            _ => format!("\\u{unit:04x}"),
        })
        .collect();
    add("as JSON may write it", units.clone());
    add(
        "as JSON may write it in capitals",
        units.to_uppercase().replace("\\U", "\\u"),
    );
    add("as Rust shows bytes", escaped(|byte| format!("\\x{byte:02x}")));
    add("as PostgreSQL shows bytes", escaped(|byte| format!("\\{byte:03o}")));
    add("in a URL", url_encoded(text));
    add("in a form", url_encoded(text).replace("%20", "+"));
    add("in hexadecimal", hex(bytes));
    add("in hexadecimal capitals", hex(bytes).to_uppercase());
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    add("as numbers", numbers.join(", "));
    add("as JSON's numbers", numbers.join(","));
    add("hashed, in hexadecimal", hex(&hash));
    add("hashed, in base64", BASE64_STANDARD_NO_PAD.encode(hash));
    // In the middle of something longer it may begin at any of three places.
    for before in 0..3 {
        let shifted = [&[0; 2][..before], bytes].concat();
        let encoded = BASE64_STANDARD_NO_PAD.encode(&shifted);
        let whole = &encoded[(before * 8).div_ceil(6)..shifted.len() * 8 / 6];
        if whole.len() > 5 {
            all.push(("in base64", whole.as_bytes().to_vec()));
            all.push((
                "in base64 for URLs",
                whole.replace('+', "-").replace('/', "_").into_bytes(),
            ));
        }
    }
    all
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes whatever is written");
        text
    })
}

fn url_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[test]
fn whatever_is_there_is_found() {
    let texts = [("name", "남궁표식"), ("phone", "010-7391-2846"), ("postcode", "06397")];
    let needles = Needles::of(&texts.map(|(what, text)| (what, text.to_owned())), &[]);
    let found = |haystack: &str| needles.found_in(haystack.as_bytes());
    let base64 = |text: &str| BASE64_STANDARD_NO_PAD.encode(text);
    for haystack in [
        "x남궁표식x".to_owned(),
        r#"{"name":"\ub0a8\uad81\ud45c\uc2dd"}"#.to_owned(),
        r#"{"name":"\uB0A8\uAD81\uD45C\uC2DD"}"#.to_owned(),
        format!("{:?}", bytes::Bytes::from("말 남궁표식".as_bytes())),
        format!("{:?}", "남궁표식".as_bytes()),
        "q=%EB%82%A8%EA%B6%81%ED%91%9C%EC%8B%9D&".to_owned(),
        r#"(1,"\\x7b22eb82a8eab681ed919cec8b9d227d")"#.to_owned(),
        base64("남궁표식"),
        base64(".남궁표식.."),
        base64("..010-7391-2846"),
        format!(" {:x} ", Sha256::digest("010-7391-2846")),
        "(ord_1,06397,)".to_owned(),
        "postcode=06397 ".to_owned(),
    ] {
        assert!(!found(&haystack).is_empty(), "{haystack}");
    }
    for haystack in ["남궁*식", "010-****-2846", "12:00:01.06397Z", "a06397", "7391-2846"] {
        assert_eq!(found(haystack), Vec::<String>::new(), "{haystack}");
    }
}
