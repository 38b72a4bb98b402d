//! On whose word is something written?
//!
//! Nobody who writes an audit row can forget it: what is written while a verb of an operator is carried out
//! gets its `by` from here.

tokio::task_local! {
    static BY: String;
}

/// Every audit row that `work` writes says that this operator asked for it.
pub async fn asked_by<T>(by: &str, work: impl Future<Output = T>) -> T {
    BY.scope(by.to_owned(), work).await
}

/// Who asked for what is written now; none: nobody in particular.
pub(super) fn asked_for() -> Option<String> {
    BY.try_with(Clone::clone).ok()
}
