use super::text::tests::parse;
use super::*;
use bowstring_cache::clock::ManualClock;
use bowstring_cold::tier::ColdStats;
use bowstring_wire::name::Tenant;

use crate::conn::ConnHandle;
use crate::listener::Peer;
use crate::shutdown::Shutdown;

fn metrics() -> (Metrics, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(0));
    (Metrics::new(clock.clone()), clock)
}

fn stats(metrics: &Metrics, verb: &str) -> Option<RequestStats> {
    let mut requests = metrics.requests();
    requests.find(|(name, _)| *name == verb).map(|it| it.1)
}

#[test]
fn a_request_is_in_flight_and_then_counted() {
    let (metrics, clock) = metrics();
    let get = metrics.begin(Verb::DoGet);
    get.received(20);
    let samples = parse(&metrics.render());
    assert_eq!(samples["bowstring_requests_in_flight{verb=\"DoGet\"}"], 1.0);
    assert_eq!(
        samples["bowstring_requests_total{verb=\"DoGet\",code=\"ok\"}"],
        0.0
    );

    clock.advance(Duration::from_millis(7));
    get.sent(3_000);
    assert_eq!(stats(&metrics, "DoGet").unwrap().in_flight, 1);
    get.ok();
    metrics.begin(Verb::DoGet).failed(Code::NotFound);
    drop(metrics.begin(None));
    let told = RequestStats {
        ok: 1,
        failed: 1,
        in_flight: 0,
        received_bytes: 20,
        sent_bytes: 3_000,
    };
    assert_eq!(stats(&metrics, "DoGet"), Some(told));
    assert_eq!(stats(&metrics, "DoPut"), None);
    let samples = parse(&metrics.render());
    let requests = |verb, code| {
        samples[&format!("bowstring_requests_total{{verb=\"{verb}\",code=\"{code}\"}}")]
    };
    assert_eq!(requests("DoGet", "ok"), 1.0);
    assert_eq!(requests("DoGet", "not_found"), 1.0);
    assert_eq!(requests("other", "cancelled"), 1.0);
    assert_eq!(samples["bowstring_requests_in_flight{verb=\"DoGet\"}"], 0.0);
    assert_eq!(
        samples["bowstring_sent_bytes_total{verb=\"DoGet\"}"],
        3_000.0
    );
    assert_eq!(
        samples["bowstring_received_bytes_total{verb=\"DoGet\"}"],
        20.0
    );
    assert_eq!(
        samples["bowstring_request_duration_seconds_sum{verb=\"DoGet\"}"],
        0.007
    );
    let bucket = |le| {
        samples[&format!("bowstring_request_duration_seconds_bucket{{verb=\"DoGet\",le=\"{le}\"}}")]
    };
    assert_eq!((bucket("0.0025"), bucket("0.01")), (1.0, 2.0));
}

#[test]
fn connections_refusals_and_cut_offs() {
    let (metrics, _) = metrics();
    let conn = |peer| ConnHandle::new(peer, Shutdown::new().running());
    let near = conn(Peer::Unix {
        uid: 7,
        pid: Some(8),
    });
    let tcp = conn(Peer::Tcp(([127, 0, 0, 1], 9).into()));
    let near = metrics.connected(&near);
    let _call = tcp.call();
    let tcp = metrics.connected(&tcp);
    let peers: Vec<String> = metrics
        .connected_now()
        .into_iter()
        .map(|it| it.peer)
        .collect();
    assert_eq!(peers, ["uid=7 pid=8", "127.0.0.1:9"]);
    drop(near);
    assert_eq!(metrics.connections(), 1);
    let listed = Connected {
        id: 2,
        transport: "tcp",
        peer: "127.0.0.1:9".to_owned(),
        opened_at_ms: 0,
        requests: 1,
        sent_bytes: 0,
    };
    assert_eq!(metrics.connected_now(), [listed]);
    metrics.refused(Refusal::ConnectionsMax);
    metrics.refused(Refusal::KeepaliveTimeout);
    metrics.cut_off(CutOff::ReaderConnection);
    let samples = parse(&metrics.render());
    for (series, value) in [
        ("bowstring_connections{transport=\"tcp\"}", 1.0),
        ("bowstring_connections{transport=\"unix\"}", 0.0),
        (
            "bowstring_connections_opened_total{transport=\"unix\"}",
            1.0,
        ),
        (
            "bowstring_connections_refused_total{reason=\"connections_max\"}",
            1.0,
        ),
        (
            "bowstring_connections_refused_total{reason=\"keepalive_timeout\"}",
            1.0,
        ),
        (
            "bowstring_cut_off_total{whom=\"reader\",how=\"connection_closed\"}",
            1.0,
        ),
    ] {
        assert_eq!(samples[series], value, "{series}");
    }
    drop(tcp);
    let samples = parse(&metrics.render());
    assert_eq!(samples["bowstring_connections{transport=\"tcp\"}"], 0.0);
}

#[test]
fn requests_within_exchanges_are_counted_by_op_and_code() {
    let (metrics, _) = metrics();
    metrics.exchanged(ExchangeOp::MuxGet, None);
    metrics.exchanged(ExchangeOp::MuxGet, Some(Code::NotFound));
    metrics.exchanged(ExchangeOp::MuxGet, None);
    let samples = parse(&metrics.render());
    let count = |op, code| {
        samples[&format!("bowstring_exchange_requests_total{{op=\"{op}\",code=\"{code}\"}}")]
    };
    assert_eq!(count("mux.get", "ok"), 2.0);
    assert_eq!(count("mux.get", "not_found"), 1.0);
    assert_eq!(count("exchange.get", "ok"), 0.0);
}

/// Labels are found by the enums' numbers.
#[test]
fn numbers_agree_with_names() {
    for (at, verb) in Verb::ALL.into_iter().enumerate() {
        assert_eq!(verb as usize, at);
    }
    for (at, code) in Code::ALL.into_iter().enumerate() {
        assert_eq!(code as usize, at);
    }
    for (at, op) in ExchangeOp::ALL.into_iter().enumerate() {
        assert_eq!(op as usize, at);
    }
    assert_eq!(Refusal::KeepaliveTimeout as usize, REFUSALS.len() - 1);
    assert_eq!(CutOff::PutIdle as usize, CUT_OFFS.len() - 1);
}

/// Every verb with every code, and all that anybody can add: still within the limit, and every
/// metric stands in the operations page.
#[test]
fn the_fullest_page_is_within_the_limit_and_described() {
    let (metrics, _) = metrics();
    for verb in Verb::ALL.into_iter().map(Some).chain([None]) {
        for code in Code::ALL {
            metrics.begin(verb).failed(code);
        }
    }
    for op in ExchangeOp::ALL {
        for code in Code::ALL {
            metrics.exchanged(op, Some(code));
        }
    }
    engine::tests::add_example(&metrics);
    namespaces::tests::add_example(&metrics);
    metrics.add_source(|text| cold::render(&ColdStats::default(), text));
    #[cfg(feature = "sql")]
    metrics.add_source(|text| sql::render(&bowstring_sql::SqlStats::default(), text));
    let page = metrics.render();
    let samples = parse(&page);
    assert!(samples.len() < SERIES_MAX, "{}", samples.len());
    assert_eq!(samples["bowstring_metric_series_dropped"], 0.0);
    for name in [
        "bowstring_process_charged_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ] {
        assert!(samples[name] > 0.0, "{name}");
    }

    let operations = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/operations.md"
    ));
    let names = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names {
        assert!(
            operations.contains(&format!("| `{name}` |")),
            "docs/operations.md lacks {name}"
        );
    }
}

#[test]
fn the_last_slow_requests_are_kept_and_each_tenant_sees_its_own() {
    let (metrics, _) = metrics();
    let (us, them) = (Tenant::public(), Tenant::parse("them").unwrap());
    for n in 0..400 {
        metrics.slow(SlowRequest {
            tenant: if n % 4 == 0 { them.clone() } else { us.clone() },
            at_ms: n,
            verb: Verb::DoGet.name(),
            code: "ok",
            namespace: String::new(),
            key: String::new(),
            bytes: 0,
            elapsed_ms: 1,
            room_ms: 0,
            sending_ms: 0,
        });
    }
    let (ours, theirs) = (metrics.slow_requests(&us), metrics.slow_requests(&them));
    assert_eq!((ours.len(), theirs.len()), (192, 64));
    assert!(ours.is_sorted_by_key(|one| one.at_ms));
    assert_eq!((ours[0].at_ms, ours[191].at_ms), (145, 399));
}
