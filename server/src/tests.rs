//! A whole server on free ports, from ready to drained.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

fn config() -> Config {
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        http: "127.0.0.1:0".parse().unwrap(),
        memory: "64MiB".parse().unwrap(),
        ..Config::default()
    }
}

async fn ask(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn what_has_expired_is_freed_though_nobody_asks() {
    use bowstring_cache::clock::ManualClock;
    use bowstring_cache::put::PutSpec;
    use bowstring_cache::{CacheConfig, Id};
    use bowstring_wire::dtype::DType;
    use bowstring_wire::name::{Key, Namespace};
    use bowstring_wire::shape::Shape;

    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let cache = Cache::new(CacheConfig::default(), clock.clone()).unwrap();
    let _expiring = spawn(expire(cache.clone(), clock.clone()));
    for (key, seconds) in [("a", 1), ("b", 60)] {
        let id = Id::public(Namespace::default(), Key::parse(key).unwrap());
        let spec = PutSpec {
            expires_at_ms: Some(clock.now_ms() + seconds * 1_000),
            ..PutSpec::new(DType::UInt8)
        };
        let put = cache.put(id, spec).unwrap();
        put.publish(Shape::new(&[0]).unwrap()).await.unwrap();
    }
    for (entries, seconds) in [(1, 1), (0, 59)] {
        clock.advance(Duration::from_secs(seconds));
        while cache.stats().entries > entries {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_millis(1));
        }
        assert_eq!(cache.stats().entries, entries);
    }
    assert_eq!(cache.stats().events.expired, 2);
}

#[tokio::test]
async fn a_server_is_ready_answers_drains_and_ends() {
    let shutdown = Shutdown::new();
    let (tell, ready) = oneshot::channel();
    let server = tokio::spawn(run(config(), shutdown.clone(), |ready: &Ready| {
        tell.send(ready.clone()).unwrap();
    }));
    let ready = ready.await.unwrap();
    let lines = ready.to_string();
    assert!(
        lines.starts_with("flight grpc://127.0.0.1:") && lines.contains("\nhttp http://127.0.0.1:")
    );
    assert!(
        ask(ready.http, "/healthz")
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    assert!(
        ask(ready.http, "/metrics")
            .await
            .contains("\nbowstring_memory_limit_bytes 67108864\n")
    );

    // Something still runs: the probes see the drain.
    let running = shutdown.running();
    shutdown.drain();
    assert!(
        ask(ready.http, "/healthz")
            .await
            .starts_with("HTTP/1.1 503 ")
    );
    drop(running);
    assert_eq!(server.await.unwrap().unwrap(), Drained::Finished);
    assert!(TcpStream::connect(ready.http).await.is_err());
}

#[tokio::test]
async fn an_address_in_use_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut config = config();
    config.http = address.parse().unwrap();
    let error = run(config, Shutdown::new(), |_| panic!("it is not ready"))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen; address=`{address}`")),
        "{error}"
    );
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn settings_that_do_not_fit_are_told() {
    let mut config = config();
    config.connections_max = Some(1_000);
    let error = run(config, Shutdown::new(), |_| panic!("it is not ready"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("max=`256`"), "{error}");
    assert_eq!(error.exit_code(), 2);
}
