//! How does Windows start the agent, and tell it to stop?
//!
//! Its service manager calls [`entry`] in a thread of its own while [`dispatch`] waits, and nothing can be
//! handed from one to the other: so the command line is read again there.

use std::time::Duration;

use clap::Parser;
use pki::manager::{Manager, Word};
use tokio::sync::oneshot;
use windows_service::service::{
    ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{
    self, ServiceControlHandlerResult, ServiceStatusHandle,
};
use windows_service::service_dispatcher;

use super::{At, Cli, Command};
use crate::config::Config;
use crate::error::{AgentError, Whose};
use crate::{app, logging};

const NAME: &str = "m2key-agent";
/// How long starting and stopping may take before Windows calls the service stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns when the service has stopped.
pub(super) fn dispatch() -> Result<(), AgentError> {
    service_dispatcher::start(NAME, entry).map_err(|error| {
        AgentError::usage(
            format!("the service manager did not start this ({error})"),
            "use `m2key-agent run` at a console",
        )
    })
}

extern "system" fn entry(_: u32, _: *mut *mut u16) {
    // Without a handle there is nobody to be told.
    let _ = serve();
}

fn serve() -> windows_service::Result<()> {
    let (stop, told) = oneshot::channel();
    let mut stop = Some(stop);
    let handle = service_control_handler::register(NAME, move |control| match control {
        ServiceControl::Stop | ServiceControl::Shutdown => {
            // A second one finds the agent on its way out.
            let _ = stop.take().map(|stop| stop.send(()));
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    })?;
    handle.set_service_status(status(ServiceState::StartPending, 0))?;
    let code = match run(handle, told) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(hint = error.hint(), "{error}");
            u32::from(error.whose().exit_code())
        }
    };
    handle.set_service_status(status(ServiceState::Stopped, code))
}

fn run(handle: ServiceStatusHandle, told: oneshot::Receiver<()>) -> Result<(), AgentError> {
    let config = match Cli::parse().command {
        Command::Service(At { config }) => Config::load(&config)?,
        _ => {
            return Err(AgentError::bug(
                "the service was started as another command",
            ));
        }
    };
    logging::start(config.log);
    let manager = Manager::through(move |word| {
        let state = match word {
            Word::Ready => ServiceState::Running,
            Word::Stopping => ServiceState::StopPending,
            Word::Alive => return,
        };
        // It asks again for what it did not hear.
        let _ = handle.set_service_status(status(state, 0));
    });
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        AgentError::new(
            Whose::Operator,
            error,
            "see which limits this account has for threads",
        )
    })?;
    // A handler that is gone tells nobody to stop; it goes with this process.
    let told = async {
        let _ = told.await;
        Ok(())
    };
    runtime.block_on(app::run(config, manager, told))
}

fn status(current_state: ServiceState, code: u32) -> ServiceStatus {
    let accepted = match current_state {
        ServiceState::Running => ServiceControlAccept::STOP | ServiceControlAccept::SHUTDOWN,
        _ => ServiceControlAccept::empty(),
    };
    ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state,
        controls_accepted: accepted,
        exit_code: match code {
            0 => ServiceExitCode::NO_ERROR,
            code => ServiceExitCode::ServiceSpecific(code),
        },
        checkpoint: 0,
        wait_hint: PATIENCE,
        process_id: None,
    }
}
