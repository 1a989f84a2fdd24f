//! Mails to customers: that an address is theirs, a new password, a code. Korean first, then English, since
//! nobody has said yet which they read.
//!
//! Nothing here keeps a mail: what is not sent is asked for again by whoever waits for it.

mod template;

use std::time::Duration;

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    message::{Mailbox, SinglePart},
};

use crate::{
    clock::Surroundings,
    config::{MailServer, Secret},
};

pub use template::Mail;

/// How long one mail may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends mails.
#[derive(Clone)]
pub enum Sender {
    /// Writes them into the log instead, on one's own machine. A live shop's log gets neither addresses nor codes,
    /// and its mails are errors.
    Log {
        /// Whether the shop is live.
        live: bool,
    },
    /// Through a mail server.
    Smtp {
        /// The connection.
        transport: Box<AsyncSmtpTransport<Tokio1Executor>>,
        /// Who writes.
        from: Mailbox,
    },
}

/// Why a mail was not sent. Shows neither the address nor what the server said, which may quote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// `JANGBU_SMTP_URL` is not set, and the shop is live.
    #[error("there is no mail server: JANGBU_SMTP_URL is not set")]
    NotConfigured,
    /// What is to be the recipient's address is none.
    #[error("the recipient's address is not an e-mail address")]
    Address,
    /// The server will not take it, ever.
    #[error("the mail server refused the mail with {code}")]
    Refused {
        /// SMTP reply code, 5xx.
        code: u16,
    },
    /// The server does not answer, or wants it later.
    #[error("the mail server is not available")]
    Unavailable,
}

/// Why a server cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("JANGBU_SMTP_URL or JANGBU_MAIL_FROM makes no sense")]
pub struct ServerError;

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Log { .. } => "Sender::Log",
            Self::Smtp { .. } => "Sender::Smtp",
        })
    }
}

impl Sender {
    /// The configured one.
    pub fn try_new(server: Option<&MailServer>, live: bool) -> Result<Self, ServerError> {
        match server {
            None => Ok(Self::Log { live }),
            Some(server) => Self::try_smtp(&server.url, &server.from),
        }
    }

    fn try_smtp(url: &Secret, from: &str) -> Result<Self, ServerError> {
        let mut url: reqwest::Url = url.expose().parse().map_err(|_| ServerError)?;
        let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        // Whoever is asked for TLS and has none gets no mail: what is sent opens accounts.
        url.set_query((url.scheme() == "smtp" && !is_here).then_some("tls=required"));
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str())
            .map_err(|_| ServerError)?
            .timeout(Some(PATIENCE))
            .build();
        Ok(Self::Smtp {
            transport: Box::new(transport),
            from: from.parse().map_err(|_| ServerError)?,
        })
    }

    /// Sends one mail to one address.
    pub async fn send(&self, surroundings: &Surroundings, to: &str, mail: &Mail) -> Result<(), MailError> {
        let sent = self.try_send(surroundings, to, mail).await;
        let outcome = if sent.is_ok() { "sent" } else { "failed" };
        metrics::counter!("jangbu_mails_total", "mail" => mail.name(), "outcome" => outcome).increment(1);
        if let Err(error) = &sent {
            tracing::warn!(mail = mail.name(), %error, "a mail was not sent");
        }
        sent
    }

    async fn try_send(&self, surroundings: &Surroundings, to: &str, mail: &Mail) -> Result<(), MailError> {
        let to: Address = to.parse().map_err(|_| MailError::Address)?;
        let (transport, from) = match self {
            Self::Log { live: true } => return Err(MailError::NotConfigured),
            Self::Log { live: false } => {
                let text = mail.text();
                tracing::info!(mail = mail.name(), %to, "a mail that is not sent, as there is no server:\n{text}");
                return Ok(());
            }
            Self::Smtp { transport, from } => (transport, from),
        };
        let id = format!("<{}@{}>", surroundings.ids.uuid().simple(), from.email.domain());
        let message = lettre::Message::builder()
            .from(from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject())
            .message_id(Some(id))
            .date(surroundings.now().into())
            .singlepart(SinglePart::plain(mail.text()))
            .map_err(|_| MailError::Address)?;
        let sent = tokio::time::timeout(PATIENCE, transport.send(message)).await;
        match sent.map_err(|_| MailError::Unavailable)? {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(MailError::Refused {
                code: error.status().map_or(0, u16::from),
            }),
            Err(_) => Err(MailError::Unavailable),
        }
    }
}
