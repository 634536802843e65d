//! What is known of a unit.

use zbus::message::Message;
use zbus::zvariant::{DynamicDeserialize, OwnedObjectPath, OwnedValue};

use crate::error::SystemdError;
use crate::manager::{INTERFACE, Manager, PATH};

/// The interface that all units have.
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// The one that only services have.
const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// Where their properties are asked for.
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What `systemctl show` says of a unit, as far as somebody here asks. Words that are not known are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// In words, for people; the unit's name if there is no such unit.
    pub description: String,
    /// Whether its file could be loaded: `loaded`, `not-found`, `masked`.
    pub load_state: String,
    /// `active`, `inactive`, `failed`, …
    pub active_state: String,
    /// The state of its own kind: `running`, `dead`, `exited`, …
    pub sub_state: String,
    /// Whether it starts by itself: `enabled`, `disabled`, `static`, `masked`, …
    pub file_state: String,
    /// A service's kind: `simple`, `notify`, `oneshot`, …
    pub service_type: String,
    /// How a service ended last: `success`, `exit-code`, …
    pub result: String,
}

/// How the manager lists a unit: name, description, load state, active state, sub state, what it follows, path, and of its
/// job number, type and path.
type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

impl Manager {
    /// What is known of units, in their order. A unit that does not exist is known as `not-found`; one that the manager
    /// has no word on is all empty.
    ///
    /// # Errors
    /// systemd cannot be asked or refuses.
    pub fn units(&self, names: &[String]) -> Result<Vec<Unit>, SystemdError> {
        self.answer(async {
            // An alias is listed under its unit's own name, so the order alone says which is which.
            let answer = self.call(PATH, INTERFACE, "ListUnitsByNames", &(names,)).await?;
            let listed: Vec<Listed> = body(&answer)?;
            if listed.len() != names.len() {
                let counts = format!("{} units for {} names", listed.len(), names.len());
                return Err(SystemdError::Broken(counts));
            }
            let mut units = Vec::with_capacity(listed.len());
            for unit in listed {
                units.push(self.complete(unit).await?);
            }
            Ok(units)
        })
    }

    /// Adds what a list does not tell.
    async fn complete(&self, listed: Listed) -> Result<Unit, SystemdError> {
        let (name, description, load_state, active_state, sub_state, _, path, ..) = listed;
        let mut unit = Unit {
            description,
            load_state,
            active_state,
            sub_state,
            ..Unit::default()
        };
        if unit.load_state == "not-found" {
            return Ok(unit);
        }
        unit.file_state = self.text(&path, UNIT, "UnitFileState").await?;
        if name.ends_with(".service") {
            unit.service_type = self.text(&path, SERVICE, "Type").await?;
            unit.result = self.text(&path, SERVICE, "Result").await?;
        }
        Ok(unit)
    }

    async fn text(&self, path: &OwnedObjectPath, interface: &str, property: &str) -> Result<String, SystemdError> {
        let answer = self
            .call(path.as_str(), PROPERTIES, "Get", &(interface, property))
            .await?;
        let value: OwnedValue = body(&answer)?;
        String::try_from(value).map_err(|error| SystemdError::Broken(error.to_string()))
    }

    /// Whether systemd knows of a unit, and in which active state it is; a unit without a file that does not run is
    /// unknown.
    ///
    /// # Errors
    /// systemd cannot be asked or refuses.
    pub fn active_state(&self, unit: &str) -> Result<Option<String>, SystemdError> {
        self.answer(async {
            let path: OwnedObjectPath = match self.call(PATH, INTERFACE, "GetUnit", &(unit,)).await {
                Ok(answer) => body(&answer)?,
                Err(error) if error.is_no_such_unit() => return Ok(None),
                Err(error) => return Err(error),
            };
            match self.text(&path, UNIT, "ActiveState").await {
                Ok(state) => Ok(Some(state)),
                // It went between the two questions.
                Err(SystemdError::Refused { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }
}

/// What an answer holds.
pub(crate) fn body<T>(answer: &Message) -> Result<T, SystemdError>
where
    T: for<'d> DynamicDeserialize<'d>,
{
    answer.body().deserialize().map_err(SystemdError::from)
}
