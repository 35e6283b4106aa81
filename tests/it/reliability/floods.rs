//! Connections and frames without end: the server stays small, and serves others meanwhile.

use bowstring_tests::{Server, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, connect,
    frame, literal, request,
};
use super::mutated::put_and_get;
use super::raw::{Raw, Stopwatch};
use super::scaled;
use super::state::{charged_bytes, open_files};

/// Connections that come and go.
const CONNECTIONS: usize = 10_000;
/// Connections that stay and say nothing.
const HALF_OPEN: usize = 2_000;
/// Frames of each flood.
const FRAMES: usize = 100_000;
/// What the server may have more, once a flood is over.
const MORE_BYTES_MAX: u64 = 32 << 20;
/// And while it lasts, for the allocator keeps what was freed for a second; and after all of them.
const PEAK_BYTES_MAX: u64 = 64 << 20;

#[tokio::test]
async fn a_storm_of_connections_is_capped_and_an_honest_client_gets_in() {
    let server = Server::start();
    let address = server.address();
    put_and_get(&mut Raw::connect(address).await, "warm").await;
    let before = (charged_bytes(&server), open_files(server.pid()).len());
    let (mut more, mut slowest) = (0, std::time::Duration::ZERO);

    let mut silent = Vec::new();
    for number in 0..HALF_OPEN {
        silent.push(TcpStream::connect(address).await.expect("a connection"));
        if number % 200 == 0 {
            let clock = Stopwatch::start();
            assert_eq!(server.http_get("/healthz").0, 200);
            slowest = slowest.max(clock.elapsed());
            more = more.max(charged_bytes(&server).saturating_sub(before.0));
        }
    }
    let open = server.metrics().sum("bowstring_connections");
    // As many as 256 MiB of memory allow.
    assert!(open <= 128.0, "{open} connections are open");
    put_and_get(&mut Raw::connect(address).await, "honest").await;
    drop(silent);

    for number in 0..scaled(CONNECTIONS) {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let said: &[u8] = match number % 5 {
            0 => b"",
            1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            2 => b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            3 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        };
        // A server that has closed already says the same.
        let _ = stream.write_all(said).await;
        drop(stream);
        if number % 500 == 0 {
            let clock = Stopwatch::start();
            assert_eq!(server.http_get("/healthz").0, 200);
            slowest = slowest.max(clock.elapsed());
            more = more.max(charged_bytes(&server).saturating_sub(before.0));
        }
    }
    // The last of them may still wait to be accepted when those before them have gone.
    until(
        "all connections and their descriptors to be gone",
        async || {
            let none = server.metrics().sum("bowstring_connections") == 0.0;
            (none && open_files(server.pid()).len() <= before.1 + 8).then_some(())
        },
    )
    .await;
    assert!(more < MORE_BYTES_MAX, "{more} bytes more");
    put_and_get(&mut Raw::connect(address).await, "after").await;
    let opened = server.metrics().sum("bowstring_connections_opened_total");
    let refused = server.metrics().sum("bowstring_connections_refused_total");
    eprintln!(
        "connections: {opened} opened, {refused} refused or given up; the slowest of the health \
         checks took {slowest:?}; memory +{} KiB",
        more >> 10
    );
}

/// What comes again and again; the number makes its streams new ones.
type Frames = fn(u32) -> Vec<u8>;

const FLOODS: [(&str, Frames); 9] = [
    ("resets", |number| {
        let stream = 2 * number + 1;
        let mut call = frame(HEADERS, END_HEADERS, stream, &request("DoPut"));
        call.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        call
    }),
    ("continuations", |number| {
        let field = literal(&format!("x-{number}"), "a");
        match number {
            0 => frame(HEADERS, 0, 1, &request("DoPut")),
            _ => frame(CONTINUATION, 0, 1, &field),
        }
    }),
    ("empty continuations", |number| match number {
        0 => frame(HEADERS, 0, 1, &request("DoPut")),
        _ => frame(CONTINUATION, 0, 1, &[]),
    }),
    ("empty data", |number| match number {
        0 => frame(HEADERS, END_HEADERS, 1, &request("DoPut")),
        _ => frame(DATA, 0, 1, &[]),
    }),
    ("data of one byte", |number| match number {
        0 => frame(HEADERS, END_HEADERS, 1, &request("DoPut")),
        _ => frame(DATA, 0, 1, &[0]),
    }),
    ("calls that are never ended", |number| {
        frame(HEADERS, END_HEADERS, 2 * number + 1, &request("DoPut"))
    }),
    ("settings", |_| frame(SETTINGS, 0, 0, &[])),
    ("pings", |_| frame(PING, 0, 0, b"bowstrng")),
    ("windows", |number| match number {
        0 => frame(HEADERS, END_HEADERS, 1, &request("DoPut")),
        // Of the call, whose window is as it was at first.
        _ => frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()),
    }),
];

#[tokio::test]
async fn floods_of_frames_cost_no_memory() {
    let server = Server::start();
    let mut bystander = Raw::connect(server.address()).await;
    put_and_get(&mut bystander, "warm").await;
    let at_first = charged_bytes(&server);
    let (mut reports, mut peak) = (Vec::new(), 0);
    // A client that reads what it is answered, and one that does not.
    for reads in [true, false] {
        for (name, make) in FLOODS {
            let before = charged_bytes(&server);
            let mut more = 0;
            let (mut sent, mut connections) = (0, 0);
            while sent < scaled(FRAMES) && connections < 2_000 {
                connections += 1;
                let part = flood(&server, make, scaled(FRAMES) - sent, reads).await;
                sent += part;
                if connections % 20 == 1 {
                    more = more.max(charged_bytes(&server).saturating_sub(before));
                }
            }
            more = more.max(charged_bytes(&server).saturating_sub(before));
            assert!(more < PEAK_BYTES_MAX, "{name}: {more} bytes more");
            peak = peak.max(more);
            until("memory to come back", async || {
                let more = charged_bytes(&server).saturating_sub(before);
                // The allocator gives back what it has when it is asked for something.
                server.http_get("/healthz");
                (more < MORE_BYTES_MAX).then_some(())
            })
            .await;
            put_and_get(&mut bystander, &format!("beside {name} {reads}")).await;
            reports.push(format!("{name} {connections}"));
        }
    }
    until("the floods to be over", async || {
        let metrics = server.metrics();
        let over = metrics.sum("bowstring_connections") <= 1.0
            && metrics.sum("bowstring_requests_in_flight") == 0.0;
        over.then_some(())
    })
    .await;
    let more = charged_bytes(&server).saturating_sub(at_first);
    assert!(more < PEAK_BYTES_MAX, "{more} bytes more after all floods");
    eprintln!(
        "floods of {} frames over so many connections: {}; one of them at most +{} KiB, all together +{} KiB",
        scaled(FRAMES),
        reports.join(", "),
        peak >> 10,
        more >> 10
    );
}

/// Sends at most `frames` frames over one connection, until the server closes it; how many went out.
async fn flood(server: &Server, make: fn(u32) -> Vec<u8>, frames: usize, reads: bool) -> usize {
    let (mut reader, mut writer) = connect(server.address()).await.into_split();
    let answers = tokio::spawn(async move {
        let mut scrap = vec![0; 1 << 16];
        while reads && matches!(reader.read(&mut scrap).await, Ok(1..)) {}
        reader
    });
    let mut sent = 0;
    let mut batch = Vec::new();
    while sent < frames {
        batch.clear();
        for _ in 0..256.min(frames - sent) {
            batch.extend(make(u32::try_from(sent).expect("few")));
            sent += 1;
        }
        // A server that has had enough closes; one that waits for us to read, waits.
        let writing = writer.write_all(&batch);
        if !matches!(soon(writing).await, Some(Ok(()))) {
            break;
        }
    }
    answers.abort();
    sent
}

/// What comes within a second.
async fn soon<F: std::future::Future>(future: F) -> Option<F::Output> {
    tokio::select! {
        output = future => Some(output),
        () = bowstring_tests::pause(std::time::Duration::from_secs(1)) => None,
    }
}
