//! Do all implementations pass the one suite?

use hsm::{MemoryHsm, conformance};

mod support;

use support::Maker;

on_both! {
    it_conforms
    it_conforms_with_several_workers
}

async fn it_conforms(maker: Maker) {
    conformance::all(&maker.open("conformance")).await;
}

async fn it_conforms_with_several_workers(maker: Maker) {
    let hsm = maker.open_with("conformance-4", |options| options.workers = 4);
    conformance::all(&hsm).await;
}

#[tokio::test]
async fn memory_conforms() {
    conformance::all(&MemoryHsm::new()).await;
}
