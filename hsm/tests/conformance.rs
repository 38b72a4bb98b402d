//! Do both implementations pass the one suite?

use hsm::{MemoryHsm, conformance};

mod support;

#[tokio::test]
async fn softhsm_conforms() {
    conformance::all(&support::open("conformance")).await;
}

#[tokio::test]
async fn softhsm_conforms_with_several_workers() {
    let hsm = support::open_with("conformance-4", |options| options.workers = 4);
    conformance::all(&hsm).await;
}

#[tokio::test]
async fn memory_conforms() {
    conformance::all(&MemoryHsm::new()).await;
}
