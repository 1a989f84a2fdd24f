//! Mails, as a server takes them.

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use jangbu::{
    clock::{ManualClock, Surroundings, SystemIds},
    config::{Config, Secret},
    mail::{Mail, MailError, Sender},
};
use jangbu_events::Timestamp;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// A server that takes mails for everybody but `full@…`, and hands them over.
struct Sink {
    address: SocketAddr,
    mails: mpsc::UnboundedReceiver<String>,
}

impl Sink {
    async fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let (sender, mails) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(converse(client, sender.clone()));
            }
        });
        Self { address, mails }
    }
}

/// One connection, by the letter of RFC 5321.
async fn converse(client: TcpStream, mails: mpsc::UnboundedSender<String>) -> Option<()> {
    let mut client = BufReader::new(client);
    client.write_all(b"220 sink\r\n").await.ok()?;
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let answer = match line.get(..4)?.to_ascii_uppercase().as_str() {
            "EHLO" => "250-sink\r\n250 8BITMIME\r\n",
            "RCPT" if line.contains("full@") => "552 <full@example.com> has no room\r\n",
            "DATA" => {
                client.write_all(b"354 go on\r\n").await.ok()?;
                let mut mail = String::new();
                while !mail.ends_with("\r\n.\r\n") {
                    client.read_line(&mut mail).await.ok()?;
                }
                mails.send(mail).ok()?;
                "250 taken\r\n"
            }
            "QUIT" => {
                client.write_all(b"221 bye\r\n").await.ok()?;
                return None;
            }
            _ => "250 ok\r\n",
        };
        client.write_all(answer.as_bytes()).await.ok()?;
    }
}

fn surroundings() -> Surroundings {
    Surroundings {
        clock: Arc::new(ManualClock::new(
            Timestamp::from_timestamp(1_780_000_000, 0).expect("a time"),
        )),
        ids: Arc::new(SystemIds),
    }
}

fn sender(url: &str) -> Sender {
    let config = Config::from_vars(|name| match name {
        "JANGBU_SMTP_URL" => Some(url.to_owned()),
        "JANGBU_MAIL_FROM" => Some("장부 <no-reply@shop.example>".to_owned()),
        _ => None,
    })
    .expect("a configuration");
    Sender::try_new(config.mail_server.as_ref(), config.live).expect("a sender")
}

fn reset() -> Mail {
    Mail::ResetPassword {
        link: Secret::new("https://shop.example/reset?token=s3cret"),
    }
}

/// The text of a mail, however it was encoded on the way.
fn text_of(mail: &str) -> String {
    let (head, body) = mail.split_once("\r\n\r\n").expect("a head and a body");
    let body = body.trim_end_matches("\r\n.\r\n");
    if head.contains("base64") {
        let bytes = STANDARD.decode(body.replace("\r\n", "")).expect("base64");
        return String::from_utf8(bytes).expect("text");
    }
    assert!(head.contains("8bit"), "{head}");
    body.to_owned()
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written() {
    let mut sink = Sink::start().await;
    let sender = sender(&format!("smtp://{}", sink.address));
    sender
        .send(&surroundings(), "kim@example.com", &reset())
        .await
        .expect("it is taken");
    let mail = sink.mails.recv().await.expect("a mail");
    let head = mail.split_once("\r\n\r\n").expect("a head").0;
    assert!(
        head.contains("To: kim@example.com") && head.contains("<no-reply@shop.example>"),
        "{head}"
    );
    assert!(
        head.contains("Date: Thu, 28 May 2026 20:26:40 +0000"),
        "by the injected clock: {head}"
    );
    assert!(!head.contains("s3cret"));
    let text = text_of(&mail).replace("\r\n", "\n");
    assert_eq!(text.trim_end(), reset().text().trim_end());
}

#[tokio::test]
async fn what_a_server_refuses_is_told_without_the_address() {
    let sink = Sink::start().await;
    let here = sender(&format!("smtp://{}", sink.address));
    let refused = here.send(&surroundings(), "full@example.com", &reset()).await;
    assert_eq!(refused, Err(MailError::Refused { code: 552 }));
    for wrong in [
        "",
        "kim",
        "kim@example.com\r\nBcc: lee@example.com",
        "kim@example.com, lee@example.com",
    ] {
        assert_eq!(
            here.send(&surroundings(), wrong, &reset()).await,
            Err(MailError::Address),
            "{wrong}"
        );
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let away = sender(&format!("smtp://{address}"));
    assert_eq!(
        away.send(&surroundings(), "kim@example.com", &reset()).await,
        Err(MailError::Unavailable)
    );
}

#[tokio::test]
async fn a_server_elsewhere_gets_nothing_without_tls() {
    let mut sink = Sink::start().await;
    // Not one of the names of this machine that go without, though it leads here.
    let sender = sender(&format!("smtp://127.0.0.2:{}", sink.address.port()));
    let sent = sender.send(&surroundings(), "kim@example.com", &reset()).await;
    assert!(sent.is_err());
    assert!(sink.mails.try_recv().is_err());
}

#[tokio::test]
async fn without_a_server_mails_go_to_the_log_of_whoever_tries_it_out_and_nowhere_when_live() {
    let log = Sender::try_new(None, false).expect("a sender");
    assert_eq!(log.send(&surroundings(), "kim@example.com", &reset()).await, Ok(()));
    let live = Sender::try_new(None, true).expect("a sender");
    let sent = live.send(&surroundings(), "kim@example.com", &reset()).await;
    assert_eq!(sent, Err(MailError::NotConfigured));
}
