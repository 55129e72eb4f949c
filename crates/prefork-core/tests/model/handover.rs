//! The hand-over of an upgrade in place, as the model's tests use it: written down and read again.

use prefork_core::model::Supervisor;
use prefork_core::wire::handover::service::Service;

/// What the image before writes down.
pub fn written(supervisor: &Supervisor) -> Result<String, String> {
    let service = Service::from(&supervisor.hand_over()?);
    serde_json::to_string(&service).map_err(|error| error.to_string())
}

/// The supervisor of the image that reads it.
pub fn read(document: &str) -> Result<Supervisor, String> {
    let service: Service = serde_json::from_str(document).map_err(|error| error.to_string())?;
    Supervisor::taken_over(service.try_into()?)
}
