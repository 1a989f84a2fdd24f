//! Finds the installed PostgreSQL servers and runs their programs.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::{EmbeddedError, place::Account};

/// The oldest major version that serves: initdb's `--no-instructions` and all SQL in `migrations/` work with it.
pub(super) const OLDEST: u32 = 14;

/// Where distributions put server binaries; a `*` stands for anything in one directory's name.
const USUAL_PLACES: &[&str] = &[
    "/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
    "/usr/pgsql-*/bin",                   // packages of postgresql.org for Fedora and Red Hat
    "/usr/libexec/postgresql*",           // Alpine
    "/usr/local/pgsql/bin",               // from source
    "/opt/homebrew/opt/postgresql@*/bin", // Homebrew on Apple silicon, on Intel and on Linux
    "/usr/local/opt/postgresql@*/bin",    //
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// One installed server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub directory: PathBuf,
    pub major: u32,
}

impl Binaries {
    /// A command that runs one of the programs as `account`, in a working directory that it can enter.
    pub fn command(&self, program: &str, account: Option<&Account>, working_directory: &Path) -> Command {
        command(&self.directory.join(program), account, working_directory)
    }
}

/// A command that inherits neither stdin nor any variable that PostgreSQL's programs obey.
pub(super) fn command(program: &Path, account: Option<&Account>, working_directory: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .current_dir(working_directory);
    if let Some(account) = account {
        // Setting the user drops root's supplementary groups as well.
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// What a failed program said, for an error message.
pub(super) fn said(output: &Output) -> String {
    let text = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
    String::from_utf8_lossy(&text).trim().replace('\n', "; ")
}

/// `PATH` and the usual places, in this order.
pub(super) fn search_path(path: Option<&OsStr>) -> Vec<PathBuf> {
    let on_path = path
        .map(|path| std::env::split_paths(path).collect::<Vec<_>>())
        .unwrap_or_default();
    on_path
        .into_iter()
        .filter(|directory| directory.is_absolute())
        .chain(USUAL_PLACES.iter().flat_map(|place| expand(place)))
        .collect()
}

/// The directories that a pattern with at most one `*` names.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, prefix) = before.rsplit_once('/').expect("patterns are absolute");
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .map(|name| PathBuf::from(format!("{parent}/{name}{after}")))
        .collect()
}

/// The newest server in `directories` that `account` can run.
pub(super) fn newest(directories: &[PathBuf], account: Option<&Account>) -> Result<Binaries, EmbeddedError> {
    all(directories, account)
        .into_iter()
        .filter(|binaries| binaries.major >= OLDEST)
        .max_by_key(|binaries| binaries.major)
        .ok_or_else(|| not_installed(directories))
}

/// The server of exactly the version that made a cluster.
pub(super) fn of_version(
    directories: &[PathBuf],
    account: Option<&Account>,
    made_by: &str,
    cluster: &Path,
) -> Result<Binaries, EmbeddedError> {
    let all = all(directories, account);
    if all.is_empty() {
        return Err(not_installed(directories));
    }
    let mut majors: Vec<u32> = all.iter().map(|binaries| binaries.major).collect();
    majors.sort_unstable();
    all.into_iter()
        .find(|binaries| binaries.major.to_string() == made_by)
        .ok_or_else(|| EmbeddedError::OtherVersion {
            directory: cluster.to_path_buf(),
            made_by: made_by.to_owned(),
            installed: majors.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
        })
}

fn not_installed(directories: &[PathBuf]) -> EmbeddedError {
    let mut searched: Vec<String> = directories
        .iter()
        .map(|directory| directory.display().to_string())
        .collect();
    searched.dedup();
    EmbeddedError::NotInstalled {
        oldest: OLDEST,
        searched: searched.join(", "),
    }
}

fn all(directories: &[PathBuf], account: Option<&Account>) -> Vec<Binaries> {
    let mut found: Vec<Binaries> = Vec::new();
    for directory in directories {
        // Links on PATH lead to a directory that is searched anyway; each server counts once.
        let Some(directory) = directory
            .join("postgres")
            .canonicalize()
            .ok()
            .and_then(|path| Some(path.parent()?.to_path_buf()))
        else {
            continue;
        };
        if found.iter().any(|binaries| binaries.directory == directory)
            || !["initdb", "pg_ctl"]
                .iter()
                .all(|program| directory.join(program).is_file())
        {
            continue;
        }
        // Asking as the account also finds out whether it may run them at all.
        let answer = command(&directory.join("postgres"), account, Path::new("/"))
            .arg("--version")
            .output();
        let major = answer
            .ok()
            .and_then(|output| major(&String::from_utf8_lossy(&output.stdout)));
        found.extend(major.map(|major| Binaries { directory, major }));
    }
    found
}

/// 15 from `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, 18 from `postgres (PostgreSQL) 18beta1`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    number
        .split(|character: char| !character.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        assert_eq!(
            major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major("postgres: not found"), None);
    }

    #[test]
    fn path_comes_before_the_usual_places_and_relative_entries_are_left_out() {
        let path = search_path(Some(OsStr::new("/one:relative:/two")));
        assert_eq!(path[..2], [PathBuf::from("/one"), PathBuf::from("/two")]);
        assert!(path.contains(&PathBuf::from("/usr/local/pgsql/bin")));
    }

    #[test]
    fn where_nothing_is_installed_the_error_says_what_to_install() {
        let error = newest(&[PathBuf::from("/nonexistent/bin"), PathBuf::from("/")], None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("found in /nonexistent/bin, /;"), "{error}");
        assert!(
            error.contains("apt-get install postgresql") && error.contains("DATABASE_URL"),
            "{error}"
        );
    }
}
