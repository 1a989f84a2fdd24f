//! The passwords that everybody tries first, as what they are made of: favourite words, runs along the
//! keyboard, repetitions, years. The words are our own list; Korean ones stand here in Hangul and are
//! recognised as the keys of the two-set keyboard as well (관리자 is `rhksflwk`).

use std::{collections::BTreeSet, sync::LazyLock};

/// A password of fewer pieces than this is refused; a character that belongs to nothing is a piece.
const PIECES_MIN: usize = 5;
/// Shorter runs are in too many good passwords.
const RUN_MIN: usize = 3;

const WORDS: &str = "
    password passw0rd passwd passcode passphrase pass login signin welcome hello letmein access admin
    administrator root system manager master server guest user username test testing tester demo sample
    default temp temporary change changeme secret private security secure public office company computer
    internet network windows microsoft google apple samsung iphone android galaxy naver kakao daum nexon
    facebook instagram twitter youtube netflix amazon paypal bank money credit card shop shopping store market order
    coupang jangbu korea korean seoul busan incheon daegu daejeon gwangju ulsan jeju hangul republic japan china america
    canada london paris tokyo berlin england france germany australia
    love iloveyou loveyou loveme lovely lover forever always baby babygirl babyboy honey sweet sweety sweetheart angel
    heart kiss princess prince queen king lady girl girls boys family mother father mommy daddy sister brother friend friends
    friendship happy happiness smile lucky freedom peace hope faith grace blessed blessing jesus christ
    jesuschrist heaven church saint david michael daniel joseph matthew joshua andrew anthony
    jessica jennifer ashley michelle nicole amanda samantha thomas robert charlie jordan george
    william richard christopher alexander benjamin elizabeth victoria sophia olivia emma maria anna
    monkey dragon tiger lion eagle falcon wolf bear panda rabbit bunny kitty kitten puppy doggy cat dog horse
    pony dolphin shark whale chicken turtle butterfly penguin phoenix unicorn spider scorpion cobra
    snoopy mickey minnie donald pikachu pokemon mario zelda batman superman spiderman ironman avengers starwars
    starcraft warcraft diablo minecraft fortnite roblox overwatch league legends maplestory
    sunshine sunny rainbow summer winter spring autumn flower rose lily jasmine orange apple banana cherry peach
    strawberry chocolate cookie candy sugar coffee pizza cheese kimchi bibimbap pepper ginger
    january february march april may june july august september october november december monday
    tuesday wednesday thursday friday saturday sunday today tomorrow morning night holiday christmas
    football soccer baseball basketball hockey tennis golf volleyball swimming running player champion
    winner arsenal chelsea liverpool barcelona manchester united realmadrid juventus ronaldo messi yankees lakers cowboys
    music guitar piano rock metal metallica nirvana eminem beatles blackpink twice bigbang exo bts army
    red blue green black white yellow purple pink silver golden gold diamond crystal star stars moon
    earth ocean river mountain thunder storm fire water cool ninja samurai warrior hunter ranger
    killer soldier captain pirate wizard magic matrix shadow mystery trustno one two three four five
    six seven eight nine ten hundred thousand zero number first second last best good great super
    power strong fast big little small new old man woman my your the and you is are qwer asdf zxcv
    qaz wsx edc rfv tgb yhn ujm qazwsx whatever nothing something everything anything nobody mustang ferrari porsche mercedes
    hyundai kia toyota honda harley corvette camaro ford yamaha suzuki kawasaki
    abc abcd abc123 a1b2c3 a1s2d3 q1w2e3 1q2w3e 1q2w3e4r q1w2e3r4 1qaz 2wsx 3edc 4rfv zaq1 xsw2 1a2b3c
    1004 8282 486 5882 7942 0070 2580 0852 1357 2468 1379 7979 1212 1313 6969 4545 7777 1818
    gksrmf tkfkd sarang saranghae annyeong oppa unni appa omma minsu jihoon jiyoung minji yuna
    kim lee park choi jung kang cho yoon jang lim
";

const KOREAN_WORDS: &str = "
    비밀번호 비번 암호 패스워드 관리자 운영자 사용자 회원 손님 고객 로그인 아이디 계정 보안 인증 홈페이지 테스트 시험 임시
    안녕 안녕하세요 반가워 반갑습니다 감사 감사합니다 고마워 환영 어서오세요 사랑 사랑해 사랑해요 사랑합니다 좋아해 행복 행운 희망
    자유 평화 소망 믿음 축복 예수 예수님 하나님 하느님 주님 부처님 천사 엄마 아빠 아버지 어머니 오빠 언니
    누나 동생 우리 가족 우리집 아들 아기 애기 여보 자기 자기야 친구 공주 왕자 바보 멍청이 나쁜놈 대박 화이팅
    대한민국 한국 한글 서울 부산 인천 대구 대전 광주 울산 제주 제주도 강남 독도 태극기 나라 조선 고려
    강아지 고양이 토끼 호랑이 곰돌이 돼지 병아리 나비 하늘 바다 구름 별님 달님 햇님 무지개 꽃님 장미 나무
    봄날 여름 가을 겨울 아침 저녁 오늘 내일 월요일 금요일 토요일 일요일 생일 여행 휴가
    김치 라면 떡볶이 치킨 삼겹살 비빔밥 커피 초콜릿 사과 딸기 바나나 과자 사탕
    축구 야구 농구 손흥민 박지성 김연아 방탄소년단 아이유 소녀시대 블랙핑크 트와이스
    삼성 현대 엘지 네이버 카카오 다음 구글 회사 사무실 학교 학생 선생님 사장님 대표 직원 장부 가게 상점 쇼핑 쇼핑몰 주문 은행
    돈벌자 부자 부자되자 로또 대통령 컴퓨터 인터넷 핸드폰 게임 노래 음악 영화 마법 용사 전사 황제 최고 일등
    하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉 가나다 가나다라 가나다라마바사 민수 지훈 지영 민지 유나 영희 철수 홍길동
";

/// Rows and columns of keyboards, the alphabet and the digits, read in both directions.
const RUNS: [&str; 16] = [
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "`1234567890-=",
    "!@#$%^&*()_+",
    "qwertyuiop[]",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "qwertzuiop",
    "azertyuiop",
    "741852963",
    "147258369",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/",
    "qazwsxedcrfvtgbyhnujm",
    "1q2w3e4r5t6y7u8i9o0p",
    "가나다라마바사아자차카타파하",
    "ㅂㅈㄷㄱㅅㅛㅕㅑㅐㅔㅁㄴㅇㄹㅎㅗㅓㅏㅣㅋㅌㅊㅍㅠㅜㅡ",
];

/// Keys of the two-set keyboard, in Unicode's order of initial, medial and final letters.
const INITIALS: [&str; 19] = [
    "r", "R", "s", "e", "E", "f", "a", "q", "Q", "t", "T", "d", "w", "W", "c", "z", "x", "v", "g",
];
const MEDIALS: [&str; 21] = [
    "k", "o", "i", "O", "j", "p", "u", "P", "h", "hk", "ho", "hl", "y", "n", "nj", "np", "nl", "b", "m", "ml", "l",
];
const FINALS: [&str; 28] = [
    "", "r", "R", "rt", "s", "sw", "sg", "e", "f", "fr", "fa", "fq", "ft", "fx", "fv", "fg", "a", "q", "qt", "t", "T",
    "d", "w", "c", "z", "x", "v", "g",
];

/// A password of digits alone has so many at least.
const DIGITS_MIN: usize = 16;

static KNOWN: LazyLock<Known> = LazyLock::new(Known::collect);

struct Known {
    words: Vec<Vec<char>>,
    runs: Vec<Vec<char>>,
}

impl Known {
    fn collect() -> Self {
        let korean = KOREAN_WORDS
            .split_whitespace()
            .flat_map(|word| [word.to_owned(), keys(word).to_lowercase()]);
        let words: BTreeSet<String> = WORDS.split_whitespace().map(str::to_owned).chain(korean).collect();
        let runs = RUNS.iter().flat_map(|run| {
            let forwards: Vec<char> = run.chars().collect();
            let backwards = forwards.iter().rev().copied().collect();
            [forwards, backwards]
        });
        Self {
            words: words.iter().map(|word| word.chars().collect()).collect(),
            runs: runs.collect(),
        }
    }
}

/// What is typed for a Korean word while the keyboard is English.
fn keys(word: &str) -> String {
    word.chars()
        .map(|c| {
            let Some(syllable) = u32::from(c).checked_sub(0xAC00).filter(|n| *n < 11_172) else {
                return c.to_string();
            };
            let syllable = usize::try_from(syllable).expect("there are 11,172 syllables");
            let (initial, rest) = (syllable / 588, syllable % 588);
            [INITIALS[initial], MEDIALS[rest / 28], FINALS[rest % 28]].concat()
        })
        .collect()
}

/// Whether a password, in lower case, is made of so little that it is among the first to be tried.
pub fn is_common(lower: &str) -> bool {
    let text: Vec<char> = lower.chars().collect();
    // Dates, telephone numbers and the like.
    if text.len() < DIGITS_MIN && text.iter().all(char::is_ascii_digit) {
        return true;
    }
    // pieces[n]: the fewest pieces that the first n characters are made of.
    let mut pieces = vec![usize::MAX; text.len() + 1];
    pieces[0] = 0;
    for start in 0..text.len() {
        let next = pieces[start] + 1;
        let rest = &text[start..];
        let words = KNOWN.words.iter().filter(|word| begins_with(rest, word)).map(Vec::len);
        let period = repeated(&text, start);
        for length in words.chain(1..=longest_run(rest)).chain(period) {
            let end = &mut pieces[start + length];
            *end = (*end).min(next);
        }
    }
    pieces[text.len()] < PIECES_MIN
}

fn begins_with(text: &[char], word: &[char]) -> bool {
    text.len() >= word.len() && text.iter().zip(word).all(|(c, letter)| is_like(*c, *letter))
}

/// The letter itself, or what people write for it and believe to be clever.
fn is_like(c: char, letter: char) -> bool {
    c == letter
        || matches!(
            (c, letter),
            ('@' | '4', 'a')
                | ('3', 'e')
                | ('1' | '!' | '|', 'i' | 'l')
                | ('0', 'o')
                | ('$' | '5', 's')
                | ('7' | '+', 't')
                | ('8', 'b')
                | ('9', 'g')
        )
}

/// How many characters at the beginning are one piece: the same one again and again, keys side by
/// side, or a year. A single character is one too.
fn longest_run(text: &[char]) -> usize {
    let same = text.iter().take_while(|c| **c == text[0]).count();
    let side_by_side = KNOWN
        .runs
        .iter()
        .flat_map(|run| (0..run.len()).map(|start| &run[start..]))
        .map(|run| text.iter().zip(run).take_while(|(c, key)| c == key).count())
        .max()
        .unwrap_or(0);
    let is_year =
        text.len() >= 4 && matches!(text[..2], ['1', '9'] | ['2', '0']) && text[2..4].iter().all(char::is_ascii_digit);
    let longest = same.max(side_by_side).max(if is_year { 4 } else { 0 });
    if longest >= RUN_MIN { longest } else { 1 }
}

/// How many characters from `start` say again what stands right before it: `kim7kim7kim7` is said once.
fn repeated(text: &[char], start: usize) -> impl Iterator<Item = usize> {
    (2..=start)
        .map(move |period| {
            text[start..]
                .iter()
                .zip(&text[start - period..])
                .take_while(|(again, before)| again == before)
                .count()
                / period
                * period
        })
        .filter(|length| *length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn korean_words_are_known_by_their_keys() {
        for (word, typed) in [
            ("관리자", "rhksflwk"),
            ("비밀번호", "qlalfqjsgh"),
            ("안녕", "dkssud"),
            ("사랑해", "tkfkdgo"),
            ("대한민국", "eogksalsrnr"),
            ("떡볶이", "EjrqhRdl"),
        ] {
            assert_eq!(keys(word), typed, "{word}");
        }
    }

    #[test]
    fn what_is_tried_first_is_refused() {
        for password in [
            "password123",
            "p@ssw0rd123!",
            "passwordpassword",
            "1234567890",
            "0987654321",
            "aaaaaaaaaaaa",
            "qwertyuiop",
            "1q2w3e4r5t6y",
            "1qaz2wsx3edc",
            "zxcvbnm123",
            "asdfasdfasdf",
            "rhksflwk1234",
            "qlalfqjsgh1!",
            "dkssudgktpdy",
            "tkfkdgo1004",
            "사랑해사랑해사랑해요",
            "비밀번호1234!!",
            "iloveyou2024",
            "welcome2korea",
            "korea2026!!!",
            "kim7kim7kim7",
            "abcd1234!@#$",
            "admin@admin123",
            "qwer1234!!",
            "19900101000",
            "samsung2025!",
        ] {
            assert!(is_common(password), "{password}");
        }
    }

    #[test]
    fn what_takes_long_to_find_is_taken() {
        for password in [
            "xk39dhsjw0",
            "correct horse battery staple",
            "tv-lamp-oyster-42",
            "우리동네 빵집은 아홉시에 연다",
            "gh7!mq0zpl4c",
            "dragon monkey love summer",
            "velvetgrapefruit",
        ] {
            assert!(!is_common(password), "{password}");
        }
    }
}
