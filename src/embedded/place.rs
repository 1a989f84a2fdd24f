//! Who the private PostgreSQL runs as, and where its files are kept.

use std::{
    fs::{DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{EmbeddedError, binaries};

/// The file in the data directory that names the cluster's place when it is kept elsewhere.
pub(super) const NOTE: &str = "postgres.location";
/// The cluster's directory in the data directory, where it usually is.
pub(super) const INSIDE: &str = "postgres";

/// What a machine offers; another one in tests.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// Where to look for server binaries.
    pub binary_directories: Vec<PathBuf>,
    /// Beginnings of paths for clusters that cannot be kept in their data directory; the first that works is used.
    pub elsewhere: Vec<PathBuf>,
}

impl Host {
    pub fn this_machine() -> Self {
        Self {
            binary_directories: binaries::search_path(std::env::var_os("PATH").as_deref()),
            elsewhere: vec![PathBuf::from("/var/lib/jangbu"), PathBuf::from("/var/tmp")],
        }
    }

    /// Finds or makes the cluster's directory, for the server's user alone.
    pub fn place(&self, data_dir: &Path) -> Result<Place, EmbeddedError> {
        let inside = data_dir.join(INSIDE);
        let note = data_dir.join(NOTE);
        if inside.is_dir() {
            return Place::existing(inside);
        }
        match std::fs::read_to_string(&note) {
            Ok(elsewhere) => {
                let directory = PathBuf::from(elsewhere.trim_end());
                return if directory.is_dir() {
                    Place::existing(directory)
                } else {
                    Err(EmbeddedError::Gone { directory, note })
                };
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(EmbeddedError::io(&note)(error)),
        }
        match Account::for_new_cluster()? {
            Some(account) if !account.can_enter(data_dir) => self.place_elsewhere(data_dir, &note, &account),
            account => Place::make(inside, account),
        }
    }

    /// Numbers keep apart what a deleted and newly made data directory of the same name left behind: an old database
    /// would not fit the new one's keys.
    fn place_elsewhere(&self, data_dir: &Path, note: &Path, account: &Account) -> Result<Place, EmbeddedError> {
        let key = short_hash(data_dir);
        let mut failed = EmbeddedError::Unreachable {
            directory: data_dir.to_path_buf(),
            user: account.name.clone(),
        };
        for parent in &self.elsewhere {
            // Others may pass through it, not list it; the umask must not take that away.
            if DirBuilder::new().create(parent).is_ok() {
                std::fs::set_permissions(parent, Permissions::from_mode(0o711)).map_err(EmbeddedError::io(parent))?;
            }
            let mut number = 1;
            let made = loop {
                match Place::make(parent.join(format!("jangbu-{key}-{number}")), Some(account.clone())) {
                    Err(EmbeddedError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                        number += 1;
                    }
                    made => break made,
                }
            };
            match made {
                Ok(place) if account.can_enter(&place.directory) => {
                    std::fs::write(note, format!("{}\n", place.directory.display()))
                        .map_err(EmbeddedError::io(note))?;
                    tracing::warn!(
                        user = account.name, data_dir = %data_dir.display(), directory = %place.directory.display(),
                        "the database is kept outside the data directory, which its user cannot enter"
                    );
                    return Ok(place);
                }
                Ok(place) => {
                    std::fs::remove_dir(&place.directory).map_err(EmbeddedError::io(&place.directory))?;
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// The cluster's directory and who the server runs as.
#[derive(Debug)]
pub(super) struct Place {
    /// Holds `data`, `server.log` and `users.lock`, and usually the socket.
    pub directory: PathBuf,
    /// `None` is whoever we are.
    pub account: Option<Account>,
}

impl Place {
    fn make(directory: PathBuf, account: Option<Account>) -> Result<Self, EmbeddedError> {
        make_private(&directory, account.as_ref()).map_err(EmbeddedError::io(&directory))?;
        Ok(Self { directory, account })
    }

    fn existing(directory: PathBuf) -> Result<Self, EmbeddedError> {
        let metadata = std::fs::metadata(&directory).map_err(EmbeddedError::io(&directory))?;
        let us = rustix::process::geteuid();
        let account = match metadata.uid() {
            owner if us.is_root() && owner != 0 => Some(Account::owner(&metadata)),
            owner if owner == us.as_raw() && !us.is_root() => None,
            owner => return Err(EmbeddedError::NotOurs { directory, owner }),
        };
        match account {
            Some(account) if !account.can_enter(&directory) => Err(EmbeddedError::Unreachable {
                directory,
                user: account.name,
            }),
            account => Ok(Self { directory, account }),
        }
    }

    /// Where the socket goes. Its path may have about 100 bytes and passes through a shell and PostgreSQL's
    /// configuration, so a long or unusual one moves to `/tmp`.
    fn socket_path(&self) -> PathBuf {
        let inside = self.directory.join("socket");
        let bytes = inside.as_os_str().as_encoded_bytes();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
        if bytes.len() < 80 && bytes.iter().all(plain) {
            return inside;
        }
        PathBuf::from(format!("/tmp/jangbu-{}", short_hash(&inside)))
    }

    /// Makes the directory for the socket, which only the server's user can enter.
    pub fn socket_directory(&self) -> Result<PathBuf, EmbeddedError> {
        let directory = self.socket_path();
        match make_private(&directory, self.account.as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.check_ours(&directory)?,
            made => made.map_err(EmbeddedError::io(&directory))?,
        }
        Ok(directory)
    }

    /// Leaves nothing in `/tmp` once the server has stopped.
    pub fn remove_socket_directory(&self) {
        std::fs::remove_dir(self.socket_path()).ok();
    }

    /// Anyone may have made a directory of this name in `/tmp`.
    fn check_ours(&self, directory: &Path) -> Result<(), EmbeddedError> {
        let metadata = std::fs::symlink_metadata(directory).map_err(EmbeddedError::io(directory))?;
        let us = self
            .account
            .as_ref()
            .map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
        if metadata.is_dir() && metadata.uid() == us && metadata.mode() & 0o777 == 0o700 {
            Ok(())
        } else {
            Err(EmbeddedError::NotOurs {
                directory: directory.to_path_buf(),
                owner: metadata.uid(),
            })
        }
    }
}

/// Twelve hexadecimal digits that tell paths apart in a name.
fn short_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    format!("{digest:x}")[..12].to_owned()
}

fn make_private(directory: &Path, account: Option<&Account>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(directory)?;
    std::fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    account.map_or(Ok(()), |account| chown(directory, Some(account.uid), Some(account.gid)))
}

/// A user that root runs the server as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl Account {
    /// Who a cluster that is yet to be made would belong to; `None` is whoever we are. PostgreSQL refuses root.
    pub fn for_new_cluster() -> Result<Option<Self>, EmbeddedError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::named(name, &users))
            .map(Some)
            .ok_or(EmbeddedError::NoAccount)
    }

    /// From the text of `/etc/passwd`: `name:password:uid:gid:…`.
    fn named(name: &str, users: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [found, _, uid, gid, ..] = fields[..] else {
                return None;
            };
            if found != name {
                return None;
            }
            Some(Self {
                name: name.to_owned(),
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
            })
        })
    }

    fn owner(metadata: &std::fs::Metadata) -> Self {
        Self {
            name: format!("with uid {}", metadata.uid()),
            uid: metadata.uid(),
            gid: metadata.gid(),
        }
    }

    /// Whether it may make `directory` its working directory; asked by doing so, as modes are not all that decides.
    pub fn can_enter(&self, directory: &Path) -> bool {
        let mut shell = binaries::command(Path::new("/bin/sh"), Some(self), directory);
        shell.args(["-c", ":"]).status().is_ok_and(|status| status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_from_the_users_file() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\npostgresql:x:9:9::/:\npostgres:x:101:104:admin,,,:/var/lib:/bin/sh\n";
        assert_eq!(
            Account::named("postgres", users),
            Some(Account {
                name: "postgres".into(),
                uid: 101,
                gid: 104
            })
        );
        assert_eq!(Account::named("nobody", users), None);
    }
}
