//! Which requests does each listener take?
//!
//! A route belongs to one listener by its type, and the listener takes no other:
//!
//! ```compile_fail
//! use authority::http::{Private, Routes};
//! use authority::listen::{Listening, public};
//!
//! fn mount(listening: Listening, agents_only: Routes<Private>) {
//!     // expected `Routes<Public>`, found `Routes<Private>`
//!     let _ = public(listening, agents_only);
//! }
//! ```
//! The same with routes of the right type compiles:
//!
//! ```
//! use authority::http::{Public, Routes};
//! use authority::listen::{Listening, public};
//!
//! fn mount(listening: Listening, for_phones: Routes<Public>) {
//!     let _ = public(listening, for_phones);
//! }
//! ```

use std::marker::PhantomData;

pub(crate) use self::table::Table;

use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

pub mod agents;
pub mod asker;
pub mod body;
pub mod books;
pub mod crls;
pub mod enrolment;
pub(crate) mod events;

pub mod extract;
pub mod loopback;
pub mod openapi;
pub mod operators;
pub mod pages;
pub mod passkeys;
pub mod problem;
pub mod public;
pub mod sign_in;
pub mod sms;
pub mod source;
mod table;
pub mod trust;
pub mod wallet;
pub mod web;

/// Phones, browsers, anybody.
#[derive(Debug, Clone, Copy)]
pub struct Public;
/// Terminals and operators: the private PKI.
#[derive(Debug, Clone, Copy)]
pub struct Private;
/// This machine: health and metrics.
#[derive(Debug, Clone, Copy)]
pub struct Loopback;

/// Routes that only the listener `L` takes.
pub struct Routes<L> {
    /// With the beginning of the paths that each is for; empty: it does not say.
    branches: Vec<(String, BoxedFilter<(Response,)>)>,
    listener: PhantomData<L>,
}

/// The route's name in metrics and logs, carried in the extensions of its answer.
#[derive(Debug, Clone, Copy)]
pub struct RouteName(pub &'static str);

impl<L> Routes<L> {
    /// One route. `name` is its label in metrics.
    pub fn new<F, R>(name: &'static str, filter: F) -> Self
    where
        F: Filter<Extract = (R,), Error = Rejection> + Clone + Send + Sync + 'static,
        R: Reply + 'static,
    {
        let named = move |reply: R| {
            let mut response = reply.into_response();
            response.extensions_mut().insert(RouteName(name));
            response
        };
        Self {
            branches: vec![(String::new(), filter.map(named).boxed())],
            listener: PhantomData,
        }
    }

    /// No routes: every request is answered as not found.
    pub fn none() -> Self {
        Self {
            branches: Vec::new(),
            listener: PhantomData,
        }
    }

    /// These routes, all of which are for `path` and what is below it: nobody else's request comes to them.
    pub fn at(self, path: impl Into<String>) -> Self {
        let path = path.into();
        let alone = self.branches.into_iter().map(|(_, filter)| Self {
            branches: vec![(path.clone(), filter)],
            listener: PhantomData,
        });
        alone.fold(Self::none(), Self::or)
    }

    /// These routes, and those.
    pub fn or(mut self, other: Self) -> Self {
        for (place, filter) in other.branches {
            match self.branches.iter_mut().find(|(known, _)| *known == place) {
                Some((_, known)) => *known = known.clone().or(filter).unify().boxed(),
                None => self.branches.push((place, filter)),
            }
        }
        self
    }

    /// These routes, for whoever passes.
    pub(super) fn behind<F>(self, pass: F) -> Self
    where
        F: Filter<Extract = (), Error = Rejection> + Clone + Send + Sync + 'static,
    {
        self.each(|filter| pass.clone().and(filter).boxed())
    }

    /// The same routes, each branch within what `around` makes of it.
    fn each(self, around: impl Fn(BoxedFilter<(Response,)>) -> BoxedFilter<(Response,)>) -> Self {
        let branches = self.branches.into_iter();
        Self {
            branches: branches
                .map(|(place, filter)| (place, around(filter)))
                .collect(),
            listener: PhantomData,
        }
    }

    /// Whatever no route takes is answered as a problem, too.
    pub(crate) fn complete(self) -> Table {
        Table::of(self.branches)
    }
}
