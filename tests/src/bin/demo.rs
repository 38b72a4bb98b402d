//! What does one token's whole journey look like? `make demo` shows it.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use harness::story::{self, Places, Teller};
use harness::{Failure, World};
use protocol::charge::Mark;
use tokio::sync::mpsc;

/// Who pays when somebody presses Enter.
const SHOPPER: &str = "shopper-two";

/// Sets up bank, authority and terminal, and plays one payment through all of them.
#[derive(Parser)]
#[command(name = "m2key-demo")]
struct Arguments {
    /// Stop by itself; exit 0 only if every step held
    #[arg(long)]
    once: bool,
    /// Where to leave what others can check; made anew each time
    #[arg(long, default_value = "var/demo")]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nerror: {failure}");
            eprintln!(
                "hint: the logs are in {}",
                arguments.dir.join("house/logs").display()
            );
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let places = story::needs(&arguments.dir)?;
    let mut teller = Teller::new(stdout());
    teller.say("M2Key: the journey of one token, on real parts.");
    let world = story::play(&places, &mut teller).await?;
    let steps = teller.steps().len();
    teller.say(&format!(
        "\nAll {steps} steps held. Evidence: {}",
        places.dir().display()
    ));
    if arguments.once {
        return Ok(());
    }
    stay_up(&mut teller, &world, &places).await
}

async fn stay_up(teller: &mut Teller, world: &World, places: &Places) -> Result<(), Failure> {
    let terminal = world.terminal();
    teller.say(&format!(
        "\nEverything stays up until Ctrl-C.\n\
         \n  screen    {}\
         \n  till      http://{}/v1/charges, secret in {}\
         \n  phones    {}, in a browser or an app; keys at /.well-known/jwks.json\
         \n  terminals {}\
         \n  health    {}/ready and /metrics\
         \n  bank      {}, customers in {}\
         \n  operator  m2key-authority --config {} terminal list",
        terminal.kiosk().url()?,
        terminal.kiosk().address()?,
        terminal.file("till.secret").display(),
        world.authority.public_url()?,
        world.authority.agents_url()?,
        world.authority.loopback_url()?,
        world.bank.issuer(),
        places.house().join("bank/demo-bank.toml").display(),
        world.authority.config().display(),
    ));
    teller.say("\nEnter: a shopper scans the screen and pays what is on offer.");
    let mut pressed = pressed();
    loop {
        tokio::select! {
            ended = tokio::signal::ctrl_c() => return ended.map_err(Failure::new),
            Some(()) = pressed.recv() => match pay(world).await {
                Ok(mark) => teller.say(&format!("paid, mark {mark}")),
                Err(failure) => teller.say(&format!("not paid: {failure}")),
            },
        }
    }
}

/// Every Enter; nothing once there is nobody who could press it.
fn pressed() -> mpsc::Receiver<()> {
    let (enter, pressed) = mpsc::channel(1);
    std::thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        lines
            .map_while(|_| enter.blocking_send(()).ok())
            .for_each(drop);
    });
    pressed
}

async fn pay(world: &World) -> Result<Mark, Failure> {
    let phone = world.signed_in_phone(SHOPPER).await?;
    let link = phone.scan(world.terminal()).await?;
    let claim = phone.must_claim(&link).await?;
    phone.must_approve(&claim).await?;
    Ok(claim.view.mark)
}
