//! Whatever happens to the reader, to the power and to the line: does the screen go on, and does the rest come
//! back by itself?

use harness::authority::Pace;
use harness::kiosk::Faces;
use harness::pcsc::{Probe, VirtualTag};
use harness::terminal::Terminal;
use harness::{World, wait, web};
use serde_json::Value;
use std::path::Path;

const PROBE: &str = env!("CARGO_BIN_EXE_tag-probe");
const READER: &str = "ACS ACR122U PICC Interface 00 00";

fn status(terminal: &Terminal) -> Option<Value> {
    terminal.ask(&["status", "--json"]).ok()?.json().ok()
}

/// What the status says of the tag; empty if nothing is wrong.
fn complaint(terminal: &Terminal) -> Option<String> {
    let status = status(terminal)?;
    Some(
        status["tag"]["problem"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    )
}

async fn until_complaint(terminal: &Terminal, words: &str) {
    let look = async || complaint(terminal).filter(|it| it.contains(words));
    let found = wait::until(&format!("the status to say \"{words}\""), look).await;
    found.unwrap_or_else(|failure| panic!("{failure}; it says {:?}", complaint(terminal)));
}

/// A link and a code that were not shown before.
async fn until_other_faces(terminal: &Terminal) -> Faces {
    let before = terminal.kiosk().faces().await.unwrap();
    let look = async || {
        let now = terminal.kiosk().faces().await.ok()?;
        (now.link != before.link && now.code != before.code).then_some(now)
    };
    wait::until("another link and another code on the screen", look)
        .await
        .unwrap()
}

/// Nothing is wrong with the tag, and a phone reads a link that was not there before.
async fn until_tag_goes_on(terminal: &Terminal, before: &Option<String>) {
    let look = async || {
        let link = terminal
            .tap()
            .filter(|_| complaint(terminal).as_deref() == Some(""))?;
        (Some(&link) != before.as_ref()).then_some(())
    };
    let found = wait::until("the tag to be right again", look).await;
    found.unwrap_or_else(|failure| panic!("{failure}; it says {:?}", complaint(terminal)));
}

/// A fault has begun: it is said in words, and the screen goes on.
async fn told(terminal: &Terminal, words: &str) -> Option<String> {
    until_complaint(terminal, words).await;
    until_other_faces(terminal).await;
    terminal.tap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_the_reader_qr_and_code_go_on_and_the_tag_comes_back_by_itself() {
    let mut world = World::with(Pace::Quick).await.unwrap();
    until_tag_goes_on(world.terminal(), &None).await;

    // The card service crashes.
    world.terminal_mut().card_service().unwrap().kill();
    let before = told(world.terminal(), "PC/SC service is not running").await;
    world
        .terminal_mut()
        .card_service()
        .unwrap()
        .start()
        .unwrap();
    until_tag_goes_on(world.terminal(), &before).await;

    // The reader is unplugged.
    let entry = world.terminal().reader().unwrap().entry();
    let pcscd = world.terminal_mut().card_service().unwrap();
    pcscd.kill();
    pcscd.reconfigure(&[]).unwrap();
    pcscd.start().unwrap();
    let before = told(world.terminal(), "no NFC reader found").await;
    let pcscd = world.terminal_mut().card_service().unwrap();
    pcscd.kill();
    pcscd.reconfigure(&[entry]).unwrap();
    pcscd.start().unwrap();
    until_tag_goes_on(world.terminal(), &before).await;

    // A call never returns.
    world.terminal().reader().unwrap().hold();
    let before = told(world.terminal(), "the reader does not answer").await;
    world.terminal().reader().unwrap().release();
    until_tag_goes_on(world.terminal(), &before).await;

    // The reader says that it wrote, and did not; then other software keeps it to itself.
    world.terminal().reader().unwrap().lie_about_writes(true);
    told(world.terminal(), "said page").await;
    let socket = world.terminal_mut().card_service().unwrap().socket();
    let keep = ["--hold-exclusively", READER];
    let mut other = Probe::start(Path::new(PROBE), &socket, &keep).unwrap();
    other.wait_for_event("held");
    world.terminal().reader().unwrap().lie_about_writes(false);
    let before = told(world.terminal(), "another program holds the reader").await;
    other.finish();
    until_tag_goes_on(world.terminal(), &before).await;

    // The tag is away.
    let tag = world.terminal().reader().unwrap().remove().unwrap();
    let before = told(world.terminal(), "no tag on the reader").await;
    world.terminal().reader().unwrap().place(tag);
    until_tag_goes_on(world.terminal(), &before).await;

    // A second one lies on it.
    world.terminal().reader().unwrap().pile(true);
    let before = told(world.terminal(), "no second card").await;
    world.terminal().reader().unwrap().pile(false);
    until_tag_goes_on(world.terminal(), &before).await;
}

async fn metric(terminal: &Terminal, line: &str) -> Option<()> {
    let url = format!("http://{}/metrics", terminal.kiosk().address().ok()?);
    let answer = web::plain().ok()?.get(url).send().await.ok()?;
    let text = answer.text().await.ok()?;
    text.lines().any(|it| it == line).then_some(())
}

async fn until_metric(terminal: &Terminal, line: &str) {
    wait::until(line, async || metric(terminal, line).await)
        .await
        .unwrap();
}

/// Windows of minutes: whatever is noticed here, no write noticed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_is_taken_or_exchanged_is_told_in_status_doctor_and_metrics_without_a_write() {
    let mut world = World::without_terminals(Pace::Default).await.unwrap();
    let mut terminal = world.enrol_terminal().unwrap();
    // A reader that shows what lies there all the time.
    terminal.reader().unwrap().refuse_field_control();
    terminal.tag_verb(&["personalise"]).unwrap();
    terminal.run().await.unwrap();
    world.terminals.push(terminal);
    let terminal = world.terminal();
    until_metric(terminal, "m2key_agent_tag_in_order 1").await;

    let own = terminal.reader().unwrap().remove().unwrap();
    until_complaint(terminal, "no tag on the reader").await;
    until_metric(terminal, "m2key_agent_tag_in_order 0").await;
    let said = terminal.ask(&["doctor", "--json"]).unwrap().json().unwrap();
    let findings = said["findings"].as_array().unwrap();
    let tag = findings.iter().find(|it| it["subject"] == "tag").unwrap();
    assert_eq!(tag["verdict"], "broken", "{said:#}");

    terminal.reader().unwrap().place(VirtualTag::new(99));
    until_complaint(terminal, "the terminal's own tag is").await;
    until_metric(terminal, "m2key_agent_tag_in_order 0").await;

    terminal.reader().unwrap().remove();
    until_complaint(terminal, "no tag on the reader").await;
    terminal.reader().unwrap().place(own);
    let look = async || complaint(terminal).filter(String::is_empty);
    wait::until("nothing to be wrong with the tag", look)
        .await
        .unwrap();
    until_metric(terminal, "m2key_agent_tag_in_order 1").await;
}

fn waiting(terminal: &Terminal) -> Option<u64> {
    status(terminal)?["outbox"]["waiting"].as_u64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_killed_at_any_point_is_whole_again_with_the_next_start() {
    let mut world = World::with(Pace::Quick).await.unwrap();

    // As soon as its screen answers, three times over.
    for _ in 0..3 {
        world.terminal_mut().kill_agent();
        world.terminal_mut().start().await.unwrap();
    }

    // In the middle of a write to the tag.
    let before = world.terminal().tap();
    world.terminal().reader().unwrap().hold();
    world.terminal().reader().unwrap().wait_until_holding();
    world.terminal_mut().kill_agent();
    world.terminal().reader().unwrap().release();
    world.terminal_mut().run().await.unwrap();
    until_tag_goes_on(world.terminal(), &before).await;

    // Offline, with reports that wait.
    world.authority.kill();
    let look = async || waiting(world.terminal()).filter(|waiting| *waiting > 0);
    let waited = wait::until("a report to wait", look).await.unwrap();
    world.terminal_mut().kill_agent();
    world.terminal_mut().start().await.unwrap();
    let look = async || waiting(world.terminal()).filter(|waiting| *waiting >= waited);
    wait::until("the reports to be there still", look)
        .await
        .unwrap();

    // Offline, before the authority was heard in this run; the tokens go on from what was kept.
    let before = world.terminal().tap();
    world.terminal_mut().kill_agent();
    world.terminal_mut().start().await.unwrap();
    until_tag_goes_on(world.terminal(), &before).await;

    world.authority.serve().await.unwrap();
    let look = async || waiting(world.terminal()).filter(|waiting| *waiting == 0);
    wait::until("the reports to be with the authority", look)
        .await
        .unwrap();
    until_other_faces(world.terminal()).await;
    let said = world.terminal().ask(&["doctor", "--json"]).unwrap();
    let said = said.json().unwrap();
    let findings = said["findings"].as_array().unwrap();
    // A tag that is written at this pace lasts some days, and the doctor is right to say so.
    let well = |it: &Value| it["verdict"] == "ok" || it["subject"] == "tag wear";
    assert!(findings.iter().all(well), "{said:#}");
    let audit = world.authority.verb(&["audit", "verify"]).unwrap();
    assert_eq!(audit["holds"], true);
}
