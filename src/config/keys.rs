//! The two keys that Jangbu makes for itself when nobody gives it any, kept in the data directory.

use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Config, ConfigError, MasterKey, Secret};

/// The keys to use, from the configuration or from the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Signs and checks tokens with HMAC-SHA256: these bytes as they are. At least 32 bytes.
    pub jwt: Secret,
    /// Wraps the data keys of personal data.
    pub master: MasterKey,
}

impl Config {
    /// The keys to use. One that is not configured is read from `<data dir>/jwt.secret` or `<data dir>/master.key`; if
    /// there is no such file it is made (32 bytes of `fill_random` in base64, mode 0600). Two processes that start at
    /// once end with the same keys. The error names `JANGBU_DATA_DIR`.
    pub fn keys(&self, mut fill_random: impl FnMut(&mut [u8])) -> Result<Keys, ConfigError> {
        let jwt = match &self.jwt_secret {
            Some(secret) => secret.clone(),
            None => Secret::new(self.kept("jwt.secret", &mut fill_random)?),
        };
        let master = match &self.master_key {
            Some(key) => key.clone(),
            None => MasterKey::parse(&self.kept("master.key", &mut fill_random)?)
                .ok_or_else(|| ConfigError::new("JANGBU_DATA_DIR", "holds a master.key that is not 32 bytes"))?,
        };
        Ok(Keys { jwt, master })
    }

    fn kept(&self, name: &str, fill_random: &mut impl FnMut(&mut [u8])) -> Result<String, ConfigError> {
        let path = self.data_dir.join(name);
        read_or_make(&path, fill_random)
            .and_then(|text| check(name, text))
            .map_err(|error| {
                ConfigError::new(
                    "JANGBU_DATA_DIR",
                    format!("does not give the key {}: {error}", path.display()),
                )
            })
    }
}

/// A key file that was cut short, by a full disk or an editor, must not become a weak key.
fn check(name: &str, text: String) -> io::Result<String> {
    if text.len() < super::JWT_SECRET_BYTES_MIN {
        return Err(io::Error::other(format!("{name} is too short to be a key")));
    }
    Ok(text)
}

fn read_or_make(path: &Path, fill_random: &mut impl FnMut(&mut [u8])) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read.map(|text| text.trim().to_owned()),
    }
    ensure_data_dir(path.parent().expect("a key file lies in the data directory"))?;
    let mut key = [0; 32];
    fill_random(&mut key);
    // Written whole under a name of its own and then linked: whoever links first wins and nobody reads half a key.
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let linked = write_new(&draft, &STANDARD.encode(key)).and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft).ok();
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(std::fs::read_to_string(path)?.trim().to_owned()),
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Creates the data directory and what is missing above it. Directories that exist are left as they are; new ones are
/// for their owner alone, except that under root others may pass through them, because the private PostgreSQL
/// below runs as another user. Every secret in it is a file of mode 0600.
pub fn ensure_data_dir(path: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> = path
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .map(Path::to_path_buf)
        .collect();
    let mode = if rustix::process::geteuid().is_root() {
        0o711
    } else {
        0o700
    };
    for directory in missing.iter().rev() {
        match DirBuilder::new().mode(mode).create(directory) {
            // The umask may have taken the others' right to pass.
            Ok(()) => std::fs::set_permissions(directory, Permissions::from_mode(mode))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
