//! The description of this interface, its page, and what each problem code means.

use axum::{Json, Router};
use serde::Serialize;
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_swagger_ui::SwaggerUi;

use super::{
    App, admin_orders, admin_products, admin_stock, admin_upkeep, admin_webhooks, carts, checkout, events, explain,
    extract::Path,
    health, lookup, orders, payments,
    problem::{Code, Language, Problem, Retry},
    products, refund_account, sales, users, webhook,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Jangbu",
        description = "Commerce backend for Korean online shops.\n\n\
            Amounts are whole won, `{\"amount\": 39000, \"currency\": \"KRW\"}`; times are Korean (`+09:00`).\n\n\
            A mutation takes an `Idempotency-Key`; a repeat with the same key and body is answered as the first \
            was, with `Idempotent-Replayed: true`. Without one the server makes a key and returns it.\n\n\
            Answers carry `Jangbu-Position`. Pass it as `Jangbu-Min-Position` to read your own writes in lists.\n\n\
            Refusals are `application/problem+json` (RFC 9457) with a stable `code`; `retry` says what a program may \
            do. Texts are Korean where `Accept-Language` prefers `ko`.",
        license(name = "MIT", identifier = "MIT")
    ),
    paths(
        products::list, products::one,
        carts::open, carts::one, carts::add_lines, carts::clear, carts::change_quantity, carts::remove_line,
        checkout::check_out, checkout::consents,
        orders::list, orders::one, orders::cancel, lookup::look_up,
        payments::one, payments::complete, refund_account::give, payments::come_back, webhook::receive,
        admin_products::list, admin_products::register, admin_products::one, admin_products::revise,
        admin_stock::list, admin_stock::one, admin_stock::receive, admin_stock::adjust,
        admin_orders::list, admin_orders::one, explain::one, admin_orders::cancel, admin_orders::refund, refund_account::give_as_admin,
        sales::report,
        admin_upkeep::parked, admin_upkeep::retry_parked, admin_upkeep::failed_steps, admin_upkeep::retry_steps,
        users::sign_up, users::sign_in, users::refresh, users::sign_out, users::me, users::change_me,
        users::change_password, users::sessions, users::end_session,
        events::list, admin_webhooks::list, admin_webhooks::create, admin_webhooks::one, admin_webhooks::change,
        admin_webhooks::delete, admin_webhooks::rotate, admin_webhooks::deliveries, admin_webhooks::rewind,
        admin_webhooks::retry,
        health::live, health::ready, health::metrics, problem,
    ),
    components(schemas(ProblemDocument)),
    modifiers(&Security),
    tags(
        (name = "products", description = "What shoppers can see and buy"),
        (name = "carts", description = "From an empty cart to an order"),
        (name = "users", description = "Registering, signing in and out, and a member's own data"),
        (name = "orders", description = "A buyer's own orders"),
        (name = "payments", description = "Between the payment window and the shop"),
        (name = "events", description = "Everything that happens, for programs of others; needs a token of role admin"),
        (name = "admin", description = "For whoever runs the shop; needs a token of role admin"),
        (name = "health", description = "For whoever runs the process"),
    )
)]
struct Description;

struct Security;

impl Modify for Security {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_with(Default::default);
        for (name, description) in [
            ("guest", "The token of a guest's cart, as `POST /api/v1/carts` gave it."),
            (
                "member",
                "The access token of a member, from `POST /api/v1/users/sign-in`.",
            ),
            ("admin", "A JWT of role `admin`: `jangbu token --role admin`."),
        ] {
            let mut scheme = Http::new(HttpAuthScheme::Bearer);
            scheme.description = Some(description.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}

/// A refusal (RFC 9457). Further members are the facts of its code, such as `available`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"type": "/problems/sold_out", "title": "Sold out", "status": 409, "code": "sold_out",
    "instance": "019cb3f0a1b27c3d8e4f5a6b7c8d9e0f", "retry": "after_reload",
    "lines": [{"sku": "DRIVER-10.5", "requested": 3, "available": 2}]}))]
struct ProblemDocument {
    /// `/problems/{code}`, which explains it.
    r#type: String,
    /// In few words, in the reader's language.
    title: String,
    /// Of the answer.
    status: u16,
    /// Stable.
    code: String,
    /// In more words.
    detail: Option<String>,
    /// The request's id, also in `x-request-id`.
    instance: String,
    /// `never`, `same_key` or `after_reload`.
    retry: String,
    /// Which fields or parameters are wrong.
    errors: Option<Vec<FieldErrorDocument>>,
}

/// A wrong field or parameter.
#[derive(Debug, Serialize, ToSchema)]
struct FieldErrorDocument {
    /// JSON pointer into the body.
    pointer: Option<String>,
    /// Or the name of a parameter or header.
    parameter: Option<String>,
    /// Stable.
    code: String,
    /// In the reader's language.
    detail: String,
}

/// What a problem code means.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemPage {
    /// Stable.
    code: &'static str,
    /// Of the answer.
    status: u16,
    /// What a program may do about it.
    #[schema(value_type = String)]
    retry: Retry,
    /// In English.
    title_en: String,
    /// In Korean.
    title_ko: String,
}

/// What a problem code means.
#[utoipa::path(get, path = "/problems/{code}", tag = "health", params(("code" = String, Path)),
    responses((status = 200, body = ProblemPage), (status = 404, description = "not_found")))]
pub async fn problem(Path(code): Path<String>) -> Result<Json<ProblemPage>, Problem> {
    let code = Code::ALL.iter().find(|known| known.as_str() == code);
    let code = code.ok_or_else(|| Problem::new(Code::NotFound))?;
    Ok(Json(ProblemPage {
        code: code.as_str(),
        status: code.status().as_u16(),
        retry: code.retry(),
        title_en: code.title().speak(Language::English).to_owned(),
        title_ko: code.title().speak(Language::Korean).to_owned(),
    }))
}

/// The whole description.
pub fn description() -> utoipa::openapi::OpenApi {
    let mut description = Description::openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut description.info.version);
    description
}

/// `/openapi.json`, and a page over it at `/docs`.
pub fn router() -> Router<App> {
    SwaggerUi::new("/docs").url("/openapi.json", description()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_of_openapi_3_1_and_names_every_scheme_it_uses() {
        let description = serde_json::to_value(description()).expect("JSON");
        assert_eq!(description["openapi"], "3.1.0");
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        let known = description["components"]["securitySchemes"]
            .as_object()
            .expect("schemes");
        let paths = description["paths"].as_object().expect("paths");
        assert!(paths.len() > 25, "{}", paths.len());
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().expect("operations") {
                for scheme in operation["security"].as_array().into_iter().flatten() {
                    let names = scheme.as_object().expect("a scheme");
                    assert!(names.keys().all(|name| known.contains_key(name)), "{method} {path}");
                }
                assert_eq!(
                    operation["security"].is_array(),
                    path.contains("/admin/") || operation["security"].is_array()
                );
                let is_admin = operation["security"].to_string().contains("admin");
                let for_admins = path.contains("/admin/") || path == "/api/v1/events";
                assert_eq!(is_admin, for_admins, "{method} {path}");
            }
        }
    }

    #[test]
    fn every_code_named_in_the_description_exists() {
        let description = description();
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let text = serde_json::to_value(&description).expect("JSON");
        for operations in text["paths"].as_object().expect("paths").values() {
            for operation in operations.as_object().expect("operations").values() {
                for (status, response) in operation["responses"].as_object().expect("responses") {
                    if !status.starts_with(['4', '5']) {
                        continue;
                    }
                    let named = response["description"].as_str().expect("a text");
                    for code in named.split(", ").filter_map(|word| word.split(' ').next()) {
                        assert!(codes.contains(&code), "{code} of {operation}");
                    }
                }
            }
        }
    }
}
