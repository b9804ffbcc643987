//! `--grafana`: where else the page leads to.

use clap::Args;
use spanprof_exporter::links::{GrafanaSettings, LinkSettings, LinkTemplate, link_templates};

use super::exit::{Exit, Failure};

/// The Grafana that people look at.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct LinkArguments {
    /// Lead from the page's messages and destinations to this Grafana
    #[arg(long, value_name = "URL", help_heading = "Links of the page")]
    grafana: Option<String>,
    /// The uid of its data source for profiles
    #[arg(
        long,
        value_name = "UID",
        default_value = "pyroscope",
        requires = "grafana",
        help_heading = "Links of the page"
    )]
    grafana_profiles: String,
    /// The uid of its data source for traces
    #[arg(long, value_name = "UID", requires = "grafana", help_heading = "Links of the page")]
    grafana_traces: Option<String>,
}

impl LinkArguments {
    /// The links that were asked for, and to the Pyroscope that is pushed to.
    ///
    /// # Errors
    /// Wrong usage where an address or a uid is none.
    pub(super) fn templates(&self, pyroscope: Option<&str>) -> Result<Vec<LinkTemplate>, Failure> {
        let grafana = self.grafana.clone().map(|url| GrafanaSettings {
            url,
            profiles: self.grafana_profiles.clone(),
            traces: self.grafana_traces.clone(),
        });
        // An address of another form, such as one with a password, is pushed to and not linked to.
        let with = |pyroscope: Option<&str>| {
            let pyroscope = pyroscope.map(str::to_owned);
            link_templates(&LinkSettings { pyroscope, grafana: grafana.clone() })
        };
        with(pyroscope)
            .or_else(|_| with(None))
            .map_err(|error| Failure::new(Exit::Usage, format!("the page can't link to Grafana: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: &str) -> LinkArguments {
        LinkArguments {
            grafana: Some(url.into()),
            grafana_profiles: "pyroscope".into(),
            grafana_traces: None,
        }
    }

    #[test]
    fn links_lead_to_what_was_named_and_nowhere_else() {
        assert!(LinkArguments::default().templates(None).unwrap().is_empty());
        let links =
            asked("https://grafana.example.org").templates(Some("http://u:p@localhost:4040")).unwrap();
        assert!(
            !links.is_empty()
                && links.iter().all(|link| link.url.starts_with("https://grafana.example.org/"))
        );
        let links = LinkArguments::default().templates(Some("http://localhost:4040")).unwrap();
        assert_eq!(links.len(), 1);
        let failure = asked("javascript:alert(1)").templates(None).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
