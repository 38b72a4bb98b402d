//! What does one token's whole journey look like? `make demo` shows it.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use harness::story::{self, Places, Teller};
use harness::{Failure, World};

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
    tokio::signal::ctrl_c().await.map_err(Failure::new)
}
