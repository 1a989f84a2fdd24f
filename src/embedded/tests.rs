use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};
use sqlx::PgPool;

use super::*;

/// A data directory of this test's own; removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = Path::new("/tmp").join(format!("jangbu-embedded-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711)).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// The server's process, from the first line of `postmaster.pid`; `None` when there is no such file.
fn postmaster(directory: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(directory.join("data/postmaster.pid")).ok()?;
    Pid::from_raw(text.lines().next()?.parse().ok()?)
}

async fn ask(url: &str, question: &str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let answer = sqlx::query_scalar(question).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    answer
}

#[tokio::test]
async fn what_was_written_is_there_after_a_stop_and_a_new_start() {
    let dir = Dir::new("restart");
    let data_dir = dir.0.join("not yet/there");
    let first = Embedded::start(&data_dir).await.unwrap();
    assert_eq!(ask(first.url(), "select current_database()::text").await, "jangbu");
    assert_eq!(ask(first.url(), "show fsync").await, "on");
    assert_eq!(ask(first.url(), "show data_checksums").await, "on");
    assert_eq!(ask(first.url(), "show listen_addresses").await, "");
    assert_eq!(std::fs::metadata(first.directory()).unwrap().mode() & 0o777, 0o700);

    // A pool that is open does not keep it from stopping.
    let pool = PgPool::connect(first.url()).await.unwrap();
    sqlx::query("create table t as select 'kept' as word")
        .execute(&pool)
        .await
        .unwrap();
    let directory = first.directory().to_path_buf();
    assert!(postmaster(&directory).is_some());
    first.stop().await.unwrap();
    assert!(postmaster(&directory).is_none());

    let second = Embedded::start(&data_dir).await.unwrap();
    assert_eq!(ask(second.url(), "select word from t").await, "kept");
    drop(second);
    assert!(postmaster(&directory).is_none(), "dropping stops it as well");
}

#[tokio::test]
async fn a_second_process_attaches_and_the_last_to_leave_stops_the_server() {
    let dir = Dir::new("attach");
    let (first, second) = tokio::join!(Embedded::start(&dir.0), Embedded::start(&dir.0));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.url(), second.url());
    let directory = first.directory().to_path_buf();
    let server = postmaster(&directory).unwrap();

    // The order does not matter: whichever started the server may leave first.
    first.stop().await.unwrap();
    assert_eq!(ask(second.url(), "select 'here'").await, "here");
    let third = Embedded::start(&dir.0).await.unwrap();
    second.stop().await.unwrap();
    assert_eq!(postmaster(&directory), Some(server));
    third.stop().await.unwrap();
    assert!(postmaster(&directory).is_none());
}

#[tokio::test]
async fn whatever_was_killed_the_next_start_works() {
    let dir = Dir::new("killed");

    // Jangbu is killed: its server runs on, the next process takes it over and stops it in the end.
    let mut jangbu = Embedded::start(&dir.0).await.unwrap();
    let directory = jangbu.directory().to_path_buf();
    let server = postmaster(&directory).unwrap();
    jangbu.cluster.take().unwrap().abandon();
    drop(jangbu);
    let heir = Embedded::start(&dir.0).await.unwrap();
    assert_eq!(postmaster(&directory), Some(server));

    // The server is killed beneath it: letting go of it is no error, and the next start recovers what was committed.
    let pool = PgPool::connect(heir.url()).await.unwrap();
    sqlx::query("create table t as select 'committed' as word")
        .execute(&pool)
        .await
        .unwrap();
    kill_process(server, Signal::KILL).unwrap();
    while test_kill_process(server).is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    heir.stop().await.unwrap();
    let recovered = Embedded::start(&dir.0).await.unwrap();
    assert_eq!(ask(recovered.url(), "select word from t").await, "committed");
    recovered.stop().await.unwrap();

    // A pid file remains, and its number belongs to some other process by now.
    std::fs::write(
        directory.join("data/postmaster.pid"),
        format!("{}\n/elsewhere\n", std::process::id()),
    )
    .unwrap();
    let unstuck = Embedded::start(&dir.0).await.unwrap();
    assert_eq!(ask(unstuck.url(), "select word from t").await, "committed");
    unstuck.stop().await.unwrap();
}

#[tokio::test]
async fn a_path_that_is_long_or_unusual_works() {
    let dir = Dir::new("path");
    let data_dir = dir.0.join("장부 'of' \"$HOME\", {}".to_owned() + &"x".repeat(60));
    let embedded = Embedded::start(&data_dir).await.unwrap();
    assert_eq!(ask(embedded.url(), "select 'here'").await, "here");
    let socket = embedded.cluster.as_ref().unwrap().socket_directory().to_path_buf();
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, 0o700);
    embedded.stop().await.unwrap();
    assert!(!socket.exists(), "nothing is left in /tmp");
}

#[tokio::test]
async fn a_cluster_of_a_version_that_is_not_installed_is_refused_untouched() {
    let dir = Dir::new("version");
    let place = Host::this_machine().place(&dir.0).unwrap();
    let version = place.directory.join("data/PG_VERSION");
    std::fs::create_dir(place.directory.join("data")).unwrap();
    std::fs::write(&version, "9.6\n").unwrap();
    let error = Embedded::start(&dir.0).await.unwrap_err().to_string();
    assert!(
        error.contains("was made by PostgreSQL 9.6, but installed is only "),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(version).unwrap(), "9.6\n");
}

#[tokio::test]
async fn a_failed_start_says_what_the_server_said() {
    let dir = Dir::new("broken");
    let embedded = Embedded::start(&dir.0).await.unwrap();
    let directory = embedded.directory().to_path_buf();
    embedded.stop().await.unwrap();
    std::fs::write(directory.join("data/postgresql.conf"), "shared_buffers = lots\n").unwrap();
    let error = Embedded::start(&dir.0).await.unwrap_err().to_string();
    assert!(
        error.starts_with("pg_ctl start failed") && error.contains("shared_buffers"),
        "{error}"
    );
}

/// Root's home is closed to everyone else, and PostgreSQL does not run as root.
#[tokio::test]
async fn below_a_directory_that_only_root_may_enter_the_cluster_is_kept_elsewhere() {
    if !geteuid().is_root() {
        println!("SKIPPED: only root has to run PostgreSQL as someone else");
        return;
    }
    let dir = Dir::new("home");
    let home = dir.0.join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
    let host = Host {
        elsewhere: vec![home.clone(), dir.0.join("var")],
        ..Host::this_machine()
    };
    let data_dir = home.join("shop/.jangbu");

    let first = Embedded::start_on(host.clone(), &data_dir).await.unwrap();
    assert!(
        first.directory().starts_with(dir.0.join("var")),
        "{}",
        first.directory().display()
    );
    let directory = first.directory().to_path_buf();
    first.stop().await.unwrap();
    let again = Embedded::start_on(host.clone(), &data_dir).await.unwrap();
    assert_eq!(again.directory(), directory);
    again.stop().await.unwrap();

    // A data directory that was deleted takes its keys along, so a new one gets a new cluster.
    std::fs::remove_dir_all(&data_dir).unwrap();
    let fresh = Embedded::start_on(host.clone(), &data_dir).await.unwrap();
    assert_ne!(fresh.directory(), directory);
    let note = data_dir.join(place::NOTE);
    assert_eq!(
        std::fs::read_to_string(&note).unwrap().trim_end(),
        fresh.directory().to_str().unwrap()
    );
    let gone = fresh.directory().to_path_buf();
    fresh.stop().await.unwrap();
    std::fs::remove_dir_all(gone).unwrap();
    assert!(matches!(
        Embedded::start_on(host, &data_dir).await,
        Err(EmbeddedError::Gone { .. })
    ));
}

#[test]
fn the_installed_server_is_found_for_the_doctor() {
    let (directory, major) = installed().unwrap();
    assert!(directory.join("initdb").is_file() && major >= binaries::OLDEST);
}
