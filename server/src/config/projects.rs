//! What a project has otherwise than the rest: detectors and instruments.

use gradwatch_spectral::{detectors::DetectorConfig, layers::LayerInstrument};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Config, ConfigError};

/// Which layer instruments may be declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml documents every setting once")]
pub struct Instruments {
    pub cascade: bool,
    pub curvature: bool,
    pub dead_directions: bool,
    pub learning_cell: bool,
}

impl Instruments {
    /// Whether an instrument may be declared.
    #[must_use]
    pub fn is_on(&self, instrument: LayerInstrument) -> bool {
        match instrument {
            LayerInstrument::Cascade => self.cascade,
            LayerInstrument::Curvature => self.curvature,
            LayerInstrument::DeadDirections => self.dead_directions,
            LayerInstrument::LearningCell => self.learning_cell,
        }
    }
}

/// The settings of one project that differ; what is not named is as for all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Overrides of `detectors`.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub detectors: toml::Table,
    /// Overrides of `instruments`.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub instruments: toml::Table,
}

impl Config {
    /// The detectors of a project's segments that begin now.
    ///
    /// # Errors
    /// Names the project and the setting. Not in a configuration that was validated.
    pub fn detectors_of(&self, project: &str) -> Result<DetectorConfig, ConfigError> {
        let Some(own) = self.projects.get(project) else { return Ok(self.detectors.clone()) };
        let invalid = |message| ConfigError::Project { project: project.to_owned(), section: "detectors", message };
        let detectors: DetectorConfig = overlaid(&self.detectors, &own.detectors).map_err(invalid)?;
        detectors.validate().map_err(|error| invalid(error.to_string()))?;
        Ok(detectors)
    }

    /// The layer instruments that a project's attempts may declare.
    ///
    /// # Errors
    /// As [`Self::detectors_of`].
    pub fn instruments_of(&self, project: &str) -> Result<Instruments, ConfigError> {
        let Some(own) = self.projects.get(project) else { return Ok(self.instruments.clone()) };
        let invalid = |message| ConfigError::Project { project: project.to_owned(), section: "instruments", message };
        overlaid(&self.instruments, &own.instruments).map_err(invalid)
    }

    /// Checks what every project has otherwise.
    pub(super) fn validate_projects(&self) -> Result<(), ConfigError> {
        self.projects.keys().try_for_each(|project| {
            self.detectors_of(project)?;
            self.instruments_of(project)?;
            Ok(())
        })
    }
}

/// Settings with some of them replaced.
fn overlaid<T: Serialize + DeserializeOwned>(all: &T, own: &toml::Table) -> Result<T, String> {
    let mut settings = toml::Table::try_from(all).map_err(|error| error.to_string())?;
    overlay(&mut settings, own);
    settings.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

fn overlay(settings: &mut toml::Table, own: &toml::Table) {
    for (name, value) in own {
        match (settings.get_mut(name), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(own)) => overlay(inner, own),
            _ => {
                settings.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, path::Path};

    use super::*;

    fn with_project(text: &str) -> Config {
        let mut config = Config::embedded(SocketAddr::from(([127, 0, 0, 1], 0)), Path::new("data")).expect("valid");
        config.projects.insert("vision".into(), toml::from_str(text).expect("a project"));
        config
    }

    #[test]
    fn a_project_has_what_it_names_and_the_rest_as_all() {
        let mut config = with_project("[detectors.spike]\nz_above = 9.0\n[instruments]\ncascade = false");
        config.detectors.spike.z_rearm = 2.5;
        config.validate().expect("valid");
        let spike = config.detectors_of("vision").expect("valid").spike;
        assert_eq!((spike.z_above, spike.z_rearm), (9.0, 2.5));
        assert_eq!(config.detectors_of("text").expect("valid"), config.detectors);
        let instruments = config.instruments_of("vision").expect("valid");
        assert!(!instruments.is_on(LayerInstrument::Cascade) && instruments.is_on(LayerInstrument::Curvature));
        assert_eq!(config.instruments_of("text").expect("valid"), config.instruments);
    }

    #[test]
    fn a_project_s_setting_that_cannot_be_used_is_named_with_it() {
        for (text, part) in [
            ("[detectors.spike]\nz_above = -1.0", "projects.\"vision\".detectors: spike.z_above"),
            ("[detectors.spike]\nz_abvoe = 9.0", "z_abvoe"),
            ("[detectors.regime]\nconfirm_readings = \"3\"", "projects.\"vision\".detectors: "),
            ("[instruments]\ncascades = false", "cascades"),
            ("[instruments]\ncascade = 1", "projects.\"vision\".instruments: "),
        ] {
            let error = with_project(text).validate().expect_err(text).to_string();
            assert!(error.contains(part) && error.contains("vision"), "{text}: {error}");
        }
    }
}
