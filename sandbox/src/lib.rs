//! A hostile simulator of the outside world that a shop speaks to. So far: PortOne V2, the
//! Korean payment gateway, and logins with Kakao, Naver and Google.
//!
//! It answers PortOne's REST API with the official shapes, sends signed webhooks, shows a page in place of the payment
//! window, and has a control surface (`/_sim/…`) where a test, or a person, plays the shopper, the bank and bad luck:
//! duplicated, delayed, reordered, dropped and wrongly signed webhooks; slow, failing and cut API answers. The login
//! providers have a page where one picks a test person, and the same control surface.
//!
//! Everything lives in memory and is bounded. The control surface has no credentials: bind it to loopback.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use jangbu_sandbox::{SandboxConfig, start};
//!
//! let sandbox = start(SandboxConfig::new("api-secret", "store-1"), "127.0.0.1:0".parse()?).await?;
//! println!("PORTONE_API_BASE={}", sandbox.base_url());
//! sandbox.stop().await;
//! # Ok(())
//! # }
//! ```

mod clock;
mod config;
mod control;
mod faults;
mod oauth;
mod portone;
mod random;
mod server;
mod webhooks;
mod window;

pub use clock::{Clock, ManualClock};
pub use config::{ChannelType, ClosedAccount, ConfigError, SandboxConfig, WebhookVersion};
pub use oauth::{OAuthApp, OAuthApps};
pub use portone::Sandbox;
pub use server::{Running, StartError, serve, start};
pub use webhooks::signature::sign;
