//! What the parts cost, by themselves: `cargo bench`. Each is measured at several sizes, so that a cost that grows with
//! them shows; costs of a message and a client must not.

use std::hint::black_box;
use std::io::{self, IoSlice, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ws_realtime_lab::config::Config;
use ws_realtime_lab::core::by_address::ByAddress;
use ws_realtime_lab::core::context::Context;
use ws_realtime_lab::core::counters::Counters;
use ws_realtime_lab::core::engine::broadcast_log::{BroadcastLog, MEMBERS_PER_BATCH};
use ws_realtime_lab::core::engine::history::{History, MessageKey};
use ws_realtime_lab::core::engine::limiter::Limiter;
use ws_realtime_lab::core::engine::output::Output;
use ws_realtime_lab::core::engine::{ClientId, Engine};
use ws_realtime_lab::core::http::AccessPolicy;
use ws_realtime_lab::core::inside::{Inside, Means};
use ws_realtime_lab::core::protocol::{self, Opening, Outgoing, Payload, Replay};
use ws_realtime_lab::core::time::Now;
use ws_realtime_lab::core::websocket::deflate::Codecs;
use ws_realtime_lab::core::websocket::frame::{self, Inspector};
use ws_realtime_lab::evloop::wheel::{TICK, Wheel};
use ws_realtime_lab::net::outbox::Outbox;

const SIZES: [u32; 3] = [10, 1_000, 100_000];
/// As long as `compare` makes them.
const CHAT_IN: &str = r#"{"type":"chat","name":"n17","text":"0000000000000042"}"#;

fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix_ms: 1_700_000_000_000,
    }
}

/// With so many timers on the wheel: to add one and take it off again, and to let a tick pass.
fn wheel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel");
    for size in SIZES {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin, size as usize);
        for timer in 0..size {
            wheel.insert(origin + Duration::from_secs(20) * timer / size, timer);
        }
        group.bench_function(BenchmarkId::new("insert and cancel", size), |bencher| {
            bencher.iter(|| {
                let key = wheel.insert(origin + Duration::from_secs(7), size);
                wheel.cancel(black_box(key))
            });
        });
        // Each that fires is put back an interval later, as a Ping is.
        let mut passed = origin;
        let mut fired = Vec::new();
        group.bench_function(BenchmarkId::new("tick", size), |bencher| {
            bencher.iter(|| {
                passed += TICK;
                wheel.expire(passed, &mut fired);
                for timer in fired.drain(..) {
                    wheel.insert(passed + Duration::from_secs(20), timer);
                }
            });
        });
    }
    group.finish();
}

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Elements(1));
    group.bench_function("JSON in", |bencher| {
        bencher.iter(|| protocol::parse_chat(Payload::Text(black_box(CHAT_IN))).is_ok());
    });
    let message = Outgoing::Chat {
        name: "n17",
        text: "0000000000000042",
        ts: 1_700_000_000_000,
        id: 123_456,
    };
    let mut json = Vec::new();
    group.bench_function("JSON out", |bencher| {
        bencher.iter(|| {
            json.clear();
            serde_json::to_writer(&mut json, black_box(&message)).expect("plain data");
        });
    });
    let mut out = Vec::new();
    group.bench_function("frame", |bencher| {
        bencher.iter(|| {
            out.clear();
            frame::text(&mut out, black_box(&json));
        });
    });
    let masked = [&[0x81, 0x80 | 0x3C, 0, 0, 0, 0], &[b'x'; 60][..]].concat();
    group.bench_function("whole frames", |bencher| {
        bencher.iter(|| Inspector::default().inspect(black_box(&masked), 64 * 1024));
    });
    group.finish();
}

/// One message through all the rules, in rooms of so many: it must cost the same in each.
fn engine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    for size in SIZES {
        let mut config = Config::defaults();
        config.chat_interval = Duration::ZERO;
        config.max_clients = size as usize;
        let limits = config.limits();
        let context = Arc::new(Context {
            by_address: ByAddress::new(&limits, Vec::new()),
            model: "evloop",
            epoch: "epoch".to_owned(),
            limits,
            access: AccessPolicy {
                loopback_only: true,
                refuse_null_origin: false,
                origins: Vec::new(),
                hosts: Vec::new(),
            },
            cluster: None,
            report: None,
            missing_metrics: Vec::new(),
            counters: Counters::new(),
            codecs: Codecs::new(config.deflate_level),
            inside: Inside::new(Means::for_tests(), false, config.max_sockets()),
        });
        let now = now();
        let mut engine = Engine::new(Arc::clone(&context), now);
        let mut output = Output::new(context);
        let upgrade = Opening::Chat(Replay::Nothing).into();
        for client in 0..size {
            engine.open(
                now,
                ClientId(client),
                IpAddr::from([127, 0, 0, 1]),
                &upgrade,
                &mut output,
            );
            output.reply.clear(0);
        }
        while engine.log().is_lagging() {
            engine.next_batch(usize::MAX);
        }
        group.bench_function(BenchmarkId::new("message", size), |bencher| {
            bencher.iter(|| {
                let request = protocol::parse_chat(Payload::Text(CHAT_IN));
                engine.chat(now, ClientId(size / 2), &request, &mut output);
                engine.next_batch(1);
            });
        });
    }
    group.finish();
}

/// A message from each of so many clients.
fn limiter(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limiter");
    for size in SIZES {
        let mut limiters = vec![Limiter::default(); size as usize];
        let mut now = Instant::now();
        group.throughput(Throughput::Elements(u64::from(size)));
        group.bench_function(BenchmarkId::new("accept", size), |bencher| {
            bencher.iter(|| {
                now += Duration::from_secs(1);
                let accepted = |limiter: &mut Limiter| limiter.accept(now, Duration::from_secs(1));
                limiters
                    .iter_mut()
                    .filter_map(|limiter| accepted(limiter).ok())
                    .count()
            });
        });
    }
    group.finish();
}

fn key(id: u64) -> MessageKey<'static> {
    MessageKey {
        name: "n17".into(),
        cid: format!("cid-{id}").into(),
        text: "0000000000000042".into(),
    }
}

/// With so many messages kept: to keep another, to know one again, and to go through the newest 50.
fn history(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("history");
    for size in SIZES {
        let mut history = History::new(size as usize);
        let keep = |history: &mut History| {
            let id = history.next_id();
            history.keep(&[b'x'; 88], Some(&key(id)));
        };
        (0..size).for_each(|_| keep(&mut history));
        group.bench_function(BenchmarkId::new("keep", size), |bencher| {
            bencher.iter(|| keep(&mut history));
        });
        let known = key(history.last_id() - u64::from(size) / 2);
        group.bench_function(BenchmarkId::new("find", size), |bencher| {
            bencher.iter(|| history.find(black_box(&known)));
        });
        group.bench_function(BenchmarkId::new("newest 50", size), |bencher| {
            let first_id = history.last_id() + 1 - 50.min(u64::from(size));
            bencher.iter(|| history.read(black_box(first_id), usize::MAX));
        });
    }
    group.finish();
}

/// A socket that takes everything.
struct Wide;

impl Write for Wide {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// So many slices wait for one slow client, and go out at last.
fn outbox(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outbox");
    let frames = Bytes::from(vec![b'x'; 88]);
    for size in SIZES {
        group.throughput(Throughput::Elements(u64::from(size)));
        group.bench_function(BenchmarkId::new("push and flush", size), |bencher| {
            bencher.iter_batched_ref(
                Outbox::default,
                |outbox| {
                    for _ in 0..size {
                        outbox.push(frames.clone(), usize::MAX).expect("no limit");
                    }
                    outbox.flush(&mut Wide).expect("it takes everything");
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// A round: every member of a room of so many is sent one message, some per batch.
fn broadcast_log(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast log");
    let payload = [b'x'; 8800];
    for size in SIZES {
        let mut log =
            BroadcastLog::with_capacity(size as usize, Config::defaults().limits().deflate);
        (0..size).for_each(|member| log.join(ClientId(member), false));
        group.throughput(Throughput::Elements(u64::from(size)));
        group.bench_function(BenchmarkId::new("round", size), |bencher| {
            bencher.iter(|| {
                log.append(&payload);
                while log.is_lagging() {
                    black_box(log.next_batch(MEMBERS_PER_BATCH));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    wheel,
    wire,
    engine,
    limiter,
    history,
    outbox,
    broadcast_log
);
criterion_main!(benches);
