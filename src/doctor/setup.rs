//! What can be seen without asking anybody: variables, files and programs of this machine.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{Finding, Mark};
use crate::{
    config::{Config, Database, MasterKey},
    embedded,
};

/// All of it.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![configuration(config), data_directory(config)];
    findings.extend(public_url(config));
    findings.extend(keys(config));
    findings.push(payments(config));
    findings.push(webhooks(config));
    if config.database == Database::Embedded {
        findings.push(binaries());
    }
    findings
}

fn configuration(config: &Config) -> Finding {
    let database = match config.database {
        Database::Embedded => "a private database (no DATABASE_URL)",
        Database::Url(_) => "the database of DATABASE_URL",
    };
    let broker = if config.amqp_url.is_some() {
        "RabbitMQ"
    } else {
        "no broker (no AMQP_URL)"
    };
    let live = if config.live { "real money" } else { "not live" };
    Finding::ok(
        "configuration",
        format!("{database}, {broker}, HTTP at {}, {live}", config.bind),
    )
}

/// What PortOne and browsers are told must be where they can get to.
fn public_url(config: &Config) -> Option<Finding> {
    let about = "public address";
    let url = &config.public_url;
    let local = is_local(url);
    let portone_is_elsewhere = config.portone.api.as_ref().is_some_and(|api| !is_local(&api.base));
    if portone_is_elsewhere && local {
        return Some(Finding::warn(
            about,
            format!("{url} cannot be reached by PortOne's webhooks"),
            "set JANGBU_PUBLIC_URL to the address that the world sees, and give PortOne that address",
        ));
    }
    if config.live && !url.starts_with("https://") {
        return Some(Finding::wrong(
            about,
            format!("{url} is not encrypted, and the shop is live"),
            "put a proxy with TLS in front and set JANGBU_PUBLIC_URL=https://…",
        ));
    }
    None
}

/// Whether an address is of this machine.
pub(super) fn is_local(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| match url.host_str() {
        Some(host) => {
            let host = host.trim_matches(['[', ']']);
            host == "localhost"
                || host
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
        }
        None => false,
    })
}

fn payments(config: &Config) -> Finding {
    let about = "payments";
    if config.portone.missing.is_empty() {
        let base = config.portone.api.as_ref().map_or("", |api| api.base.as_str());
        return Finding::ok(about, format!("PORTONE_* are set; PortOne is at {base}"));
    }
    Finding::warn(
        about,
        format!(
            "{} not set: checkout answers 503 payments_not_configured",
            are(&config.portone.missing)
        ),
        "take them from PortOne's console, or start `jangbu sandbox` and point PORTONE_API_BASE at it",
    )
}

/// `A is`, `A and B are`, `A, B and C are`.
fn are(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => format!("{one} is"),
        [first @ .., last] => format!("{} and {last} are", first.join(", ")),
    }
}

fn webhooks(config: &Config) -> Finding {
    let about = "webhook secrets";
    match config.portone.webhook_secrets.len() {
        0 => Finding::warn(
            about,
            "none: webhooks are refused, and payments are noticed only when the browser returns or by reconciliation",
            "set PORTONE_WEBHOOK_SECRETS to the whsec_… of PortOne's console",
        ),
        1 => Finding::ok(about, "1 is accepted"),
        several => Finding::ok(about, format!("any of {several} is accepted")),
    }
}

fn data_directory(config: &Config) -> Finding {
    let about = "data directory";
    let path = &config.data_dir;
    let shown = path.display();
    let needed = config.database == Database::Embedded || config.master_key.is_none() || config.jwt_secret.is_none();
    if !needed {
        return Finding::ok(about, "not needed: database and keys are configured");
    }
    let Some(existing) = path
        .ancestors()
        .map(|ancestor| {
            if ancestor.as_os_str().is_empty() {
                Path::new(".")
            } else {
                ancestor
            }
        })
        .find(|ancestor| ancestor.exists())
    else {
        return Finding::wrong(
            about,
            format!("{shown} has no parent"),
            "choose another JANGBU_DATA_DIR",
        );
    };
    if let Err(error) = probe(existing) {
        return Finding::wrong(
            about,
            format!("{} cannot be written: {error}", existing.display()),
            "give this user the right to, or choose another JANGBU_DATA_DIR",
        );
    }
    if existing != path.as_path() {
        return Finding::ok(about, format!("{shown} is made at the first start"));
    }
    match std::fs::metadata(path).map(|metadata| mode(&metadata)) {
        Ok(mode) if mode & 0o022 != 0 => Finding::wrong(
            about,
            format!("{shown} can be written by others (mode {mode:o})"),
            format!("chmod go-w {shown}"),
        ),
        Ok(mode) if mode & 0o044 != 0 => Finding::warn(
            about,
            format!("{shown} can be listed by others (mode {mode:o})"),
            format!("chmod go-r {shown}"),
        ),
        Ok(mode) => Finding::ok(about, format!("{shown} is writable and private (mode {mode:o})")),
        Err(error) => Finding::wrong(about, format!("{shown}: {error}"), "choose another JANGBU_DATA_DIR"),
    }
}

/// Writes an empty file and takes it away again: neither modes nor ids tell for sure.
fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!(".jangbu-doctor-{}", std::process::id()));
    File::create_new(&path)?;
    std::fs::remove_file(&path)
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o777
}

/// Key files, where no variable takes their place.
fn keys(config: &Config) -> Vec<Finding> {
    let master = config.master_key.is_none().then(|| match config.database {
        Database::Embedded => kept_key(config, "master.key"),
        // Two machines would each make a key of their own, and neither could open what the other sealed.
        Database::Url(_) => match kept_key(config, "master.key") {
            kept if kept.mark == Mark::Ok => Finding::warn(
                kept.about,
                format!("{}; other machines on this database need the same key", kept.says),
                "set JANGBU_MASTER_KEY everywhere",
            ),
            kept => kept,
        },
    });
    let jwt = config.jwt_secret.is_none().then(|| kept_key(config, "jwt.secret"));
    let mut findings: Vec<Finding> = [master, jwt].into_iter().flatten().collect();
    if findings.is_empty() {
        findings.push(Finding::ok("keys", "JANGBU_MASTER_KEY and JANGBU_JWT_SECRET are set"));
    }
    findings
}

fn kept_key(config: &Config, name: &str) -> Finding {
    let path = config.data_dir.join(name);
    let shown = path.display();
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::ok(name, format!("{shown} is made at the first start"))
        }
        Err(error) => Finding::wrong(name, format!("{shown}: {error}"), "let this user read it"),
        Ok(metadata) if mode(&metadata) & 0o077 != 0 => Finding::wrong(
            name,
            format!("{shown} can be read by others (mode {:o})", mode(&metadata)),
            format!("chmod 600 {shown}"),
        ),
        Ok(_) => match std::fs::read_to_string(&path) {
            Ok(text) if name == "master.key" && MasterKey::parse(text.trim()).is_none() => Finding::wrong(
                name,
                format!("{shown} is not 32 bytes"),
                "restore it from a backup: no other key opens the personal data",
            ),
            Ok(text) if text.trim().len() < crate::config::JWT_SECRET_BYTES_MIN => Finding::wrong(
                name,
                format!("{shown} is too short to be a key"),
                "restore it from a backup, or delete it to have a new one made",
            ),
            Ok(_) => Finding::ok(
                name,
                format!("{shown} is there, for its owner alone; keep a backup of it"),
            ),
            Err(error) => Finding::wrong(name, format!("{shown}: {error}"), "let this user read it"),
        },
    }
}

/// The master key in force, without making one.
pub(super) fn master_key(config: &Config) -> Option<MasterKey> {
    config.master_key.clone().or_else(|| {
        let kept: PathBuf = config.data_dir.join("master.key");
        MasterKey::parse(std::fs::read_to_string(kept).ok()?.trim())
    })
}

fn binaries() -> Finding {
    let about = "PostgreSQL programs";
    match embedded::installed() {
        Ok((directory, major)) => Finding::ok(about, format!("version {major} in {}", directory.display())),
        Err(error) => Finding::wrong(about, error.to_string(), "install PostgreSQL or set DATABASE_URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        Config::from_vars(|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
        .expect("a configuration")
    }

    #[test]
    fn what_payments_lack_is_named() {
        let finding = payments(&config(&[("PORTONE_STORE_ID", "store-1")]));
        assert!(!finding.is_wrong());
        assert_eq!(
            finding.says,
            "PORTONE_API_SECRET and PORTONE_CHANNEL_KEY are not set: checkout answers 503 payments_not_configured"
        );
    }

    #[test]
    fn a_real_portone_cannot_reach_this_machine() {
        let portone = [
            ("PORTONE_API_SECRET", "secret"),
            ("PORTONE_STORE_ID", "store-1"),
            ("PORTONE_CHANNEL_KEY", "channel-1"),
        ];
        assert!(public_url(&config(&portone)).is_some());
        let sandbox = [&portone[..], &[("PORTONE_API_BASE", "http://127.0.0.1:9090")]].concat();
        assert_eq!(public_url(&config(&sandbox)), None);
        let proxied = [&portone[..], &[("JANGBU_PUBLIC_URL", "https://shop.example")]].concat();
        assert_eq!(public_url(&config(&proxied)), None);
        assert!(is_local("http://[::1]:8080") && is_local("http://localhost/x") && !is_local("https://api.portone.io"));
    }
}
