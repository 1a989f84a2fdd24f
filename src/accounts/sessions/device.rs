//! What a client calls itself, as little of it as tells one's own devices apart.

/// Browser and system without versions (`chrome on android`), from a `User-Agent` header. The header
/// itself is nearly a fingerprint, and is not kept.
pub fn user_agent_class(header: Option<&str>) -> String {
    let header = header.unwrap_or_default().to_ascii_lowercase();
    let first = |known: &[(&str, &'static str)]| {
        known
            .iter()
            .find(|(mark, _)| header.contains(mark))
            .map(|(_, name)| *name)
    };
    // Every browser claims to be those that came before it, so the particular ones come first.
    let browser = first(&[
        ("kakaotalk", "kakaotalk"),
        ("naver(", "naver"),
        ("whale/", "whale"),
        ("samsungbrowser", "samsung"),
        ("edg", "edge"),
        ("opr/", "opera"),
        ("firefox", "firefox"),
        ("fxios", "firefox"),
        ("crios", "chrome"),
        ("chrome", "chrome"),
        ("safari", "safari"),
        ("okhttp", "app"),
        ("cfnetwork", "app"),
        ("dart", "app"),
    ]);
    let system = first(&[
        ("iphone", "ios"),
        ("ipad", "ios"),
        ("android", "android"),
        ("windows", "windows"),
        ("cros", "chromeos"),
        ("mac os", "macos"),
        ("darwin", "ios"),
        ("linux", "linux"),
    ]);
    match (browser, system) {
        (None, None) => "other".to_owned(),
        (browser, system) => format!("{} on {}", browser.unwrap_or("other"), system.unwrap_or("other")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_recognised_and_not_more() {
        for (header, class) in [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
                "chrome on windows",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
                "safari on ios",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-S921N) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
                "samsung on android",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; wv) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537.36 KAKAOTALK 10.8.0",
                "kakaotalk on android",
            ),
            ("okhttp/4.12.0", "app on other"),
            ("\u{0}<script>", "other"),
        ] {
            assert_eq!(user_agent_class(Some(header)), class, "{header}");
        }
        assert_eq!(user_agent_class(None), "other");
    }
}
