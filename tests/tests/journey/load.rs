//! Can a whole fleet be paid at, over the lines that terminals and phones use, and do the books say the same?

use clap::Parser;
use harness::load::fleet::{FLEET_FILE, Fleet};
use harness::load::house::House;
use harness::load::options::{Arguments, Run, Storm, Verb};
use harness::load::record::Step;
use harness::load::stage::Stage;
use harness::load::{report, run, storm};

const TERMINALS: u32 = 6;
const SHOPPERS: u32 = 8;

fn asked(line: &str) -> Verb {
    let words = ["m2key-load"].into_iter().chain(line.split(' '));
    Arguments::try_parse_from(words).unwrap().verb
}

fn run_of(line: &str) -> Run {
    match asked(line) {
        Verb::Run(run) => *run,
        other => panic!("{other:?}"),
    }
}

fn storm_of(line: &str) -> Storm {
    match asked(line) {
        Verb::Storm(storm) => storm,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_renews_while_people_pay_keeps_its_books() {
    let dir = tempfile::tempdir().unwrap();
    let _house = House::open(dir.path(), TERMINALS, SHOPPERS).await.unwrap();
    // As somebody would play it who was only given the file.
    let fleet = Fleet::load(&dir.path().join(FLEET_FILE)).unwrap();

    let together = storm_of("storm --rounds 2");
    let weathered = storm::play(&fleet, &together).await.unwrap();
    assert!(weathered.holds(), "{weathered:?}");
    assert_eq!(weathered.up.len(), u64::from(2 * TERMINALS));

    let wanted = run_of("run --rate 8 --for 4s --offline 17% --renew-all --renewals 1 --seed 3");
    let stage = Stage::set(fleet, wanted.offline, wanted.patience, wanted.seed);
    let stage = stage.await.unwrap();
    assert_eq!(stage.offline.len(), 1);
    let outcome = run::play(&stage, &wanted).await.unwrap();
    let told = report::told(&wanted, &outcome);
    assert!(outcome.holds(), "{told}");
    assert_eq!(outcome.checks.len(), 4, "{told}");

    let record = &outcome.record;
    assert!(record.wanted > 0 && record.paid > 0, "{told}");
    let ended = record.paid + record.refused_count();
    assert_eq!(
        record.wanted,
        ended + record.unfinished + record.never_begun,
        "{told}"
    );
    assert_eq!(
        record.steps[&Step::Whole].from_intent.len(),
        record.paid,
        "{told}"
    );
    for step in Step::ALL {
        assert!(
            record.steps.contains_key(&step),
            "no {}: {told}",
            step.name()
        );
    }
    assert!(!outcome.renewed.unwrap().took.is_empty(), "{told}");

    // More than the house has doors for, and cut off in the middle: nobody knows yet what came of some, but the books
    // do.
    let cut = run_of("run --rate 400 --for 1s --in-flight 1 --drain 0s --seed 4");
    let outcome = run::play(&stage, &cut).await.unwrap();
    let told = report::told(&cut, &outcome);
    assert!(outcome.holds(), "{told}");
    assert!(outcome.record.never_begun > 0, "{told}");
    assert!(told.contains("percentiles beyond"), "{told}");
}
