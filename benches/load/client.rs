//! As much of HTTP/1.1 as a client of our own servers needs: one connection, kept alive, one request at a time. A
//! full client would take more of the processor than the servers that are measured.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// One request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// `GET` …
    pub method: &'a str,
    /// With its query.
    pub path: &'a str,
    /// For `Authorization: Bearer`.
    pub token: Option<&'a str>,
    /// `Idempotency-Key`.
    pub key: Option<&'a str>,
    /// JSON.
    pub body: Option<&'a Value>,
}

/// One answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// 200 …
    pub status: u16,
    /// As it came.
    pub body: Vec<u8>,
}

/// A connection to one server, made when it is first needed.
pub struct Connection {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    out: Vec<u8>,
    line: Vec<u8>,
}

impl Request<'_> {
    /// `GET path`.
    pub fn get(path: &str) -> Request<'_> {
        Request {
            method: "GET",
            path,
            ..Request::default()
        }
    }

    /// `POST path` with a JSON body.
    pub fn post<'a>(path: &'a str, body: &'a Value) -> Request<'a> {
        Request {
            method: "POST",
            path,
            body: Some(body),
            ..Request::default()
        }
    }
}

impl Answer {
    /// The body, if the status is this one.
    pub fn expect(&self, status: u16) -> anyhow::Result<Value> {
        anyhow::ensure!(
            self.status == status,
            "{} instead of {status}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        self.json()
    }

    /// The body.
    pub fn json(&self) -> anyhow::Result<Value> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).context("an answer is not JSON")
    }
}

impl Connection {
    /// To a server on this machine.
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            out: Vec::new(),
            line: Vec::new(),
        }
    }

    /// Sends a request and reads its answer. An error closes the connection; the next request makes a new one.
    pub async fn send(&mut self, request: Request<'_>) -> anyhow::Result<Answer> {
        let answered = self.exchange(request).await;
        if answered.is_err() {
            self.stream = None;
        }
        answered.with_context(|| format!("{} {}", request.method, request.path))
    }

    async fn exchange(&mut self, request: Request<'_>) -> anyhow::Result<Answer> {
        self.write(request)?;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                none.insert(BufReader::new(stream))
            }
        };
        stream.write_all(&self.out).await?;
        let status = read_line(stream, &mut self.line).await?;
        let status = status
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .context("an answer has no status")?;
        let (mut length, mut closes) = (0, false);
        loop {
            let header = read_line(stream, &mut self.line).await?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header
                .split_once(':')
                .context("an answer has a header without a colon")?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse()?,
                "connection" => closes = value.trim().eq_ignore_ascii_case("close"),
                "transfer-encoding" => anyhow::bail!("an answer comes in chunks"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        if closes {
            self.stream = None;
        }
        Ok(Answer { status, body })
    }

    fn write(&mut self, request: Request<'_>) -> anyhow::Result<()> {
        use std::io::Write as _;
        self.out.clear();
        let body = request.body.map(serde_json::to_vec).transpose()?;
        let Request { method, path, .. } = request;
        write!(self.out, "{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address)?;
        if let Some(token) = request.token {
            write!(self.out, "authorization: Bearer {token}\r\n")?;
        }
        if let Some(key) = request.key {
            write!(self.out, "idempotency-key: {key}\r\n")?;
        }
        match body {
            Some(body) => {
                let length = body.len();
                write!(
                    self.out,
                    "content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
                )?;
                self.out.extend_from_slice(&body);
            }
            None if method == "GET" => self.out.extend_from_slice(b"\r\n"),
            None => self.out.extend_from_slice(b"content-length: 0\r\n\r\n"),
        }
        Ok(())
    }
}

/// A line without its end.
async fn read_line<'a>(stream: &mut BufReader<TcpStream>, line: &'a mut Vec<u8>) -> anyhow::Result<&'a str> {
    line.clear();
    let read = stream.read_until(b'\n', line).await?;
    anyhow::ensure!(read > 0, "the connection was closed");
    Ok(std::str::from_utf8(line)?.trim_end())
}
