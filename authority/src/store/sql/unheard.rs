//! What if nobody who asked for a write hears how it ended?

use crate::store::News;
use crate::store::nodes::Lanes;

/// What a write that stands has to tell this process unless its caller hears the answer: they may have gone away, or
/// wait no longer, and what they would have done next is not done. It travels with the answer.
pub(super) struct Unheard {
    news: Vec<News>,
    own_news: Lanes,
}

impl Unheard {
    pub(super) fn of(news: Vec<News>, own_news: &Lanes) -> Self {
        Self {
            news,
            own_news: own_news.clone(),
        }
    }

    /// The caller goes on by themselves.
    pub(super) fn was_heard(mut self) {
        self.news.clear();
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let news = self.news.drain(..);
        news.for_each(|it| self.own_news.tell(it));
    }
}
