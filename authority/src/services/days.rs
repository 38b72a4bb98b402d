//! Which business day is it for this merchant, and when is it over?
//!
//! A business day is a day of the calendar in the merchant's time zone: 23 or 25 hours long when its
//! clocks change, and none the less one day.

use jiff::tz::TimeZone;
use protocol::problem::ProblemType;
use protocol::time::Timestamp;

use super::Failure;
use crate::app::App;
use crate::store::MerchantTerms;

/// A time zone that is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// There is no such time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time zone of the IANA database")]
pub struct BadZone(String);

/// One business day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusinessDay {
    /// YYYY-MM-DD
    pub day: String,
    pub from: Timestamp,
    /// The first moment of the next.
    pub until: Timestamp,
}

impl Zone {
    /// By its IANA name, e.g. `Europe/Paris`.
    pub fn parse(name: &str) -> Result<Self, BadZone> {
        let zone = TimeZone::get(name).map_err(|_| BadZone(name.into()))?;
        let name = zone.iana_name().unwrap_or(name).to_owned();
        Ok(Self { name, zone })
    }

    pub fn utc() -> Self {
        Self {
            name: "UTC".into(),
            zone: TimeZone::UTC,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The business day that `at` lies in.
    pub fn day_of(&self, at: Timestamp) -> Result<BusinessDay, Failure> {
        let find = || {
            let here =
                jiff::Timestamp::from_millisecond(at.ms())?.to_zoned_datetime(self.zone.clone());
            let begins = |day: jiff::ZonedDateTime| {
                let start = day.start_of_day()?.timestamp();
                Ok::<_, jiff::Error>(Timestamp::from_ms(start.as_millisecond()))
            };
            Ok::<_, jiff::Error>(BusinessDay {
                day: here.date().to_string(),
                until: begins(here.tomorrow()?)?,
                from: begins(here)?,
            })
        };
        find().map_err(|error| {
            tracing::error!(%error, "a time outside every calendar");
            ProblemType::Internal.into()
        })
    }
}

/// The merchant's time zone: its own, or the configuration's.
pub fn zone_of(app: &App, terms: &MerchantTerms) -> Zone {
    let own = terms.zone.as_deref().map(Zone::parse);
    match own {
        Some(Ok(zone)) => zone,
        // It was known when it was set.
        Some(Err(error)) => {
            tracing::error!(%error, "a merchant's time zone is not known any more");
            app.config.books.zone.clone()
        }
        None => app.config.books.zone.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_ms(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn a_day_ends_at_midnight_of_its_own_zone() {
        let paris = Zone::parse("Europe/Paris").unwrap();
        let day = paris.day_of(at("2026-11-26T22:59:59.999Z")).unwrap();
        assert_eq!(day.day, "2026-11-26");
        assert_eq!(day.until, at("2026-11-26T23:00:00Z"));
        let next = paris.day_of(day.until).unwrap();
        assert_eq!((next.day.as_str(), next.from), ("2026-11-27", day.until));
        let utc = Zone::utc().day_of(day.until).unwrap();
        assert_eq!(utc.day, "2026-11-26");
    }

    #[test]
    fn a_day_whose_clocks_change_is_one_day() {
        let paris = Zone::parse("Europe/Paris").unwrap();
        let hours = |text| {
            let day = paris.day_of(at(text)).unwrap();
            (day.until - day.from) / 3_600_000
        };
        assert_eq!(hours("2026-03-29T12:00:00Z"), 23);
        assert_eq!(hours("2026-10-25T12:00:00Z"), 25);
    }

    #[test]
    fn a_zone_that_nobody_knows_is_refused() {
        assert!(Zone::parse("Moon/Tycho").is_err());
        assert!(Zone::parse("").is_err());
    }
}
