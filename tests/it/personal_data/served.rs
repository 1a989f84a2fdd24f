//! `jangbu serve` as a process of its own that logs everything it can, and PortOne's simulator.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use jangbu::{
    clock::Surroundings,
    http::auth::{Role, mint_token},
};
use jangbu_sandbox::{Running, SandboxConfig};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::web::Reply;

pub const JWT_SECRET: &str = "kWq4-a-secret-of-this-test-Zt81pLx0";
pub const MASTER_KEY: &str = "8f3a1c5e7092b4d6f8013a5c7e9fb2d4061829a3b5c7d9ebfd0f21436587a9cb";
pub const API_SECRET: &str = "api-secret-nWz5o3Rq7T";
pub const WEBHOOK_SECRET: &str = "whsec_c2VjcmV0IG9mIHRoaXMgdGVzdCwgMzIgYnl0ZXMhISE=";
const STORE: &str = "store-test";

pub struct Served {
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    pub base: String,
    pub admin: String,
    pub sandbox: Running,
    client: reqwest::Client,
}

impl Served {
    /// With these variables and no others than it needs.
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        let mut sandbox = SandboxConfig::new(API_SECRET, STORE);
        sandbox.webhook_secrets = vec![WEBHOOK_SECRET.to_owned()];
        let sandbox = jangbu_sandbox::start(sandbox, "127.0.0.1:0".parse().expect("an address"))
            .await
            .expect("the sandbox starts");
        let mut child = Command::new(env!("CARGO_BIN_EXE_jangbu"))
            .arg("serve")
            .current_dir(std::env::temp_dir())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_LOG", "trace")
            .env("JANGBU_BIND", "127.0.0.1:0")
            .env("JANGBU_JWT_SECRET", JWT_SECRET)
            .env("JANGBU_MASTER_KEY", MASTER_KEY)
            .env("PORTONE_API_BASE", sandbox.base_url())
            .env("PORTONE_API_SECRET", API_SECRET)
            .env("PORTONE_STORE_ID", STORE)
            .env("PORTONE_CHANNEL_KEY", "channel-key-test")
            .env("PORTONE_WEBHOOK_SECRETS", WEBHOOK_SECRET)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let output = Arc::<Mutex<Vec<u8>>>::default();
        let (tell, told) = mpsc::channel();
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let readers = vec![
            keep(stdout, output.clone(), tell.clone()),
            keep(stderr, output.clone(), tell),
        ];
        let waiting = tokio::task::spawn_blocking(move || told.recv_timeout(Duration::from_secs(60)));
        let address = waiting.await.expect("it waits");
        let Ok(address) = address else {
            _ = child.kill();
            let output = output.lock().expect("not poisoned").clone();
            panic!("it does not serve: {}", String::from_utf8_lossy(&output))
        };
        let base = format!("http://{address}");
        sandbox
            .sandbox()
            .set_webhook_urls(vec![format!("{base}/webhooks/portone")])
            .expect("it is an address");
        let now = Surroundings::system().now();
        let admin = mint_token(JWT_SECRET, Role::Admin, "kim", chrono::TimeDelta::hours(1), now);
        Self {
            child,
            output,
            readers,
            base,
            admin: admin.expect("a token"),
            sandbox,
            client: reqwest::Client::new(),
        }
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> Reply {
        self.ask(Method::GET, path, token, None).await
    }

    pub async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Reply {
        self.ask(Method::POST, path, token, Some(body.to_string())).await
    }

    /// Any text as a body that claims to be JSON.
    pub async fn post_text(&self, path: &str, token: Option<&str>, body: &str) -> Reply {
        self.ask(Method::POST, path, token, Some(body.to_owned())).await
    }

    async fn ask(&self, method: Method, path: &str, token: Option<&str>, body: Option<String>) -> Reply {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            let key = Surroundings::system().ids.uuid().to_string();
            request = request
                .header("content-type", "application/json")
                .header("idempotency-key", key)
                .body(body);
        }
        let answer = request.send().await.expect("the server answers");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.expect("text");
        Reply {
            status,
            headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }

    /// What the shopper or the bank does at PortOne.
    pub async fn at_portone(&self, payment: &str, action: &str) {
        let url = format!("{}/_sim/payments/{payment}/{action}", self.sandbox.base_url());
        let answer = self.client.post(url).json(&json!({})).send().await;
        let answer = answer.expect("the sandbox answers");
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap_or_default()
        );
    }

    /// Asks its owner's way until `pointer` in the order says so; the background work has 20 seconds.
    pub async fn order_becomes(&self, order: &str, token: &str, pointer: &str, word: &str) -> Reply {
        for _ in 0..400 {
            let reply = self
                .get(&format!("/api/v1/orders/{order}"), Some(token))
                .await
                .expect(200);
            if reply.body.pointer(pointer).is_some_and(|value| value == word) {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{pointer} of the order did not become {word}")
    }

    /// Ends it in order; everything that it has ever written.
    pub async fn stop(mut self) -> Vec<u8> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("it has an id"), Signal::TERM).expect("it hears");
        let mut child = std::mem::replace(&mut self.child, nobody());
        let readers = std::mem::take(&mut self.readers);
        let ended = tokio::task::spawn_blocking(move || {
            let status = child.wait().expect("it ends");
            for reader in readers {
                reader.join().expect("it was read to its end");
            }
            status
        });
        let status = ended.await.expect("it is waited for");
        assert!(status.success(), "{status}");
        std::mem::take(&mut *self.output.lock().expect("not poisoned"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Stands where a child was.
fn nobody() -> Child {
    Command::new("true").spawn().expect("true is everywhere")
}

/// Keeps all of it, and tells the address that it serves at.
fn keep(from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>, tell: mpsc::Sender<String>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line);
            if text.contains("serving")
                && let Some((_, rest)) = text.split_once("127.0.0.1:")
            {
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                // Nobody listens any more: it was told before.
                _ = tell.send(format!("127.0.0.1:{port}"));
            }
            into.lock().expect("not poisoned").append(&mut line);
        }
    })
}
