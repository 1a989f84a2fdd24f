//! The page in place of a login: one picks who one is, what to share, and agrees or refuses.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::authorize::Request;
use super::person::Person;
use super::{Item, Provider};
use crate::window::page::{document, escape};

const NOTICE: (&str, &str) = (
    "모의 로그인입니다. 실제 계정은 쓰이지 않습니다.",
    "Simulated login: no real account is used.",
);

/// Korean and English name.
fn names(provider: Provider) -> (&'static str, &'static str) {
    match provider {
        Provider::Kakao => ("카카오", "Kakao"),
        Provider::Naver => ("네이버", "Naver"),
        Provider::Google => ("구글", "Google"),
    }
}

/// Field value, Korean and English name.
fn item_names(item: Item) -> (&'static str, &'static str, &'static str) {
    match item {
        Item::Email => ("email", "이메일", "E-mail"),
        Item::Name => ("name", "이름", "Name"),
        Item::Nickname => ("nickname", "닉네임", "Nickname"),
        Item::Phone => ("phone", "전화번호", "Phone"),
    }
}

/// By the field's value.
pub(super) fn item(value: &str) -> Option<Item> {
    [Item::Email, Item::Name, Item::Nickname, Item::Phone]
        .into_iter()
        .find(|item| item_names(*item).0 == value)
}

/// The login page; `query` is what the shop sent the browser with.
pub(super) fn login(provider: Provider, query: &str, request: &Request, people: &[Person]) -> String {
    let (korean, english) = names(provider);
    let (items, declinable) = request.items(provider);
    let mut body = format!(
        "<header><h1>{korean}로 로그인 <small lang=\"en\">Log in with {english}</small></h1>\
         <p>누구로 로그인할까요? <small lang=\"en\">Who are you?</small></p></header>\n"
    );
    if people.is_empty() {
        body.push_str("<p class=\"empty\">사람이 없습니다. <span lang=\"en\">There is nobody.</span></p>\n");
    }
    for person in people {
        body.push_str(&form(provider, query, &items, declinable, person));
    }
    let _ = writeln!(
        body,
        "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"request\" value=\"{}\">\
         <button class=\"danger\" name=\"decision\" value=\"refuse\">거부하기 <small lang=\"en\">Refuse</small></button></form>",
        provider.authorize_path(),
        escape(query)
    );
    body.push_str("<footer><a href=\"/_sim/oauth\">내부 상태 <small lang=\"en\">Internal state</small></a></footer>\n");
    document("모의 로그인", "card", NOTICE, &body)
}

fn form(provider: Provider, query: &str, items: &BTreeSet<Item>, declinable: bool, person: &Person) -> String {
    let unnamed = "(이름 없음)";
    let mut html = format!(
        "<form class=\"person\" method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"request\" value=\"{}\">\
         <input type=\"hidden\" name=\"subject\" value=\"{}\"><dl><div><dt>{}</dt><dd>{}</dd></div></dl>",
        provider.authorize_path(),
        escape(query),
        escape(&person.subject),
        escape(person.name.as_deref().unwrap_or(unnamed)),
        escape(&standing(provider, person)),
    );
    for item in items {
        let (value, korean, english) = item_names(*item);
        let kind = if declinable { "checkbox" } else { "hidden" };
        let input = format!("<input type=\"{kind}\" name=\"share\" value=\"{value}\" checked>");
        if declinable {
            let _ = write!(
                html,
                "<label>{input} {korean} <small lang=\"en\">{english}</small></label>"
            );
        } else {
            html.push_str(&input);
        }
    }
    html.push_str(
        "<button class=\"primary\" name=\"decision\" value=\"agree\">동의하고 계속하기 \
         <small lang=\"en\">Agree and continue</small></button></form>\n",
    );
    html
}

/// The e-mail with what the provider holds of it, which is what the test persons differ in.
fn standing(provider: Provider, person: &Person) -> String {
    let Some(email) = &person.email else {
        return "이메일 없음".to_owned();
    };
    let hosted = person.hosted_domain.is_some();
    let mark = match provider {
        Provider::Kakao if !person.email_valid => " (무효)",
        Provider::Kakao | Provider::Google if !person.email_verified => " (미인증)",
        Provider::Google if hosted => " (회사 계정)",
        _ => "",
    };
    format!("{email}{mark}")
}

/// Why the login does not begin; the person is not sent anywhere.
pub(super) fn refusal(provider: Provider, code: &str, why: &str) -> String {
    let (korean, english) = names(provider);
    let body = format!(
        "<header><span class=\"badge bad\">오류 <small lang=\"en\">Error</small></span>\
         <h1>{korean} 로그인을 할 수 없습니다</h1><p lang=\"en\">The login with {english} cannot go on.</p></header>\n\
         <dl><div><dt>코드 <small lang=\"en\">Code</small></dt><dd>{}</dd></div>\
         <div><dt>내용 <small lang=\"en\">Message</small></dt><dd lang=\"en\">{}</dd></div></dl>\n",
        escape(code),
        escape(why)
    );
    document("모의 로그인", "card", NOTICE, &body)
}
