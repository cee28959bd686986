//! What the pure path of one refund costs, piece by piece.
//! `cargo bench -p eko-bench --bench core`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use eko_bench::Refund;

const COMMAND: &[u8] = include_bytes!("../../../tests/fixtures/commands/refund.json");
const ANSWER: &[u8] = include_bytes!("../../../tests/fixtures/eko/refund/done.json");

fn pieces(criterion: &mut Criterion) {
    let refund = Refund::new(COMMAND, ANSWER).expect("the fixtures are a refund and its success");
    let refund = black_box(&refund);
    let mut group = criterion.benchmark_group("refund");
    group.bench_function("parse the command", |bench| bench.iter(|| refund.parse()));
    group.bench_function("sign the call", |bench| bench.iter(|| refund.sign()));
    group.bench_function("build the request", |bench| bench.iter(|| refund.request()));
    group.bench_function("read the answer", |bench| bench.iter(|| refund.read_answer()));
    group.bench_function("decide", |bench| bench.iter(|| refund.decide()));
    group.bench_function("build the event", |bench| bench.iter(|| refund.event()));
    group.bench_function("all of it", |bench| bench.iter(|| refund.whole()));
    group.finish();
}

criterion_group!(benches, pieces);
criterion_main!(benches);
