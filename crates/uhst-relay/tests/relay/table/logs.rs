//! Row 8: a program whose logs nobody reads.

use std::{
    fs::File,
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use super::report::{LENGTH, row};
use crate::program::{fill_its_log, host_at, join_at, program, starts, stop};

/// The fate of the pipe to which a program logs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Logs {
    Broken,
    DiskFull,
    Unread,
}

pub async fn rows() {
    for (name, before, logs) in [
        ("8 logs to a broken pipe", "nothing is accepted any more", Logs::Broken),
        ("8 logs to a full disk", "it exits at start", Logs::DiskFull),
        ("8 logs to a pipe that nobody reads", "no request is answered", Logs::Unread),
    ] {
        let address = TcpListener::bind("127.77.0.3:0").unwrap().local_addr().unwrap();
        let mut program = program(&[]);
        let stderr = match logs {
            Logs::DiskFull => File::options().write(true).open("/dev/full").unwrap().into(),
            _ => Stdio::piped(),
        };
        let mut child = starts(program.stdout(Stdio::null()).stderr(stderr), address).await;
        if logs == Logs::Broken {
            drop(child.stderr.take());
        }
        let mut host = host_at(address).await;
        let flood = tokio::spawn(async move {
            fill_its_log(address).await;
        });
        let (began, mut longest, mut joins) = (Instant::now(), Duration::ZERO, 0);
        while began.elapsed() < LENGTH || !flood.is_finished() {
            let since = Instant::now();
            join_at(address, &mut host).await;
            longest = longest.max(since.elapsed());
            joins += 1;
        }
        flood.await.unwrap();
        assert!(child.try_wait().unwrap().is_none(), "the program has ended");
        row(name, before, format!("it runs, and all {joins} joins succeed"), longest);
        stop(child).await;
    }
}
