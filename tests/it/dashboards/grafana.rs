//! Grafana's dashboard JSON, as far as our dashboards need it: schema 41, Grafana 11.6 and newer.
//!
//! Every key that Grafana reads stands in this file; the files beside it say what is shown. A key that Grafana does not
//! know is found by the round trip through its own schema (`tests/grafana_round_trip.py`).

use cache_storm_exporter::thresholds::Threshold;
use serde_json::{Value, json};

use super::query;

/// Where the documents of this project are read, as the alerts say it.
pub(crate) const DOCS: &str = "https://example.com/cache-storm-exporter/docs";
/// Dashboards link to each other by this tag.
const TAG: &str = "cache-storm";
/// Options that the panels below state belong to this version; Grafana migrates older ones by it.
const GRAFANA: &str = "11.6.0";
const COLUMNS: u64 = 24;

pub(crate) const GREEN: &str = "green";
pub(crate) const YELLOW: &str = "yellow";
pub(crate) const ORANGE: &str = "orange";
pub(crate) const RED: &str = "red";
pub(crate) const BLUE: &str = "blue";
pub(crate) const PURPLE: &str = "purple";
pub(crate) const GREY: &str = "text";

/// How a number is written, by Grafana's names.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// A count, or something without a unit.
    None,
    /// 0–1 as percent.
    Ratio,
    /// Commands, keys or lookups per second.
    PerSecond,
    /// Lookups that miss per second, each one a request to the database.
    Requests,
    Seconds,
    Bytes,
    BytesPerSecond,
    /// Milliseconds since 1970, as the time that has passed since.
    Ago,
    /// Milliseconds since 1970, as date and time.
    Time,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ratio => "percentunit",
            Self::PerSecond => "ops",
            Self::Requests => "reqps",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "Bps",
            Self::Ago => "dateTimeFromNow",
            Self::Time => "dateTimeAsLocal",
        }
    }
}

/// Words and colours for values: `(value, word, colour)`.
pub(crate) type Words = Vec<(String, String, &'static str)>;

/// Words from constants.
pub(crate) fn words(list: &[(&str, &str, &'static str)]) -> Words {
    list.iter().map(|(value, word, colour)| ((*value).to_owned(), (*word).to_owned(), *colour)).collect()
}

/// One panel; its place on the dashboard follows from its size and the panels before it.
pub(crate) struct Panel {
    width: u64,
    height: u64,
    json: Value,
}

impl Panel {
    fn new(kind: &str, title: &str, description: &str, (width, height): (u64, u64)) -> Self {
        let json = json!({
            "type": kind, "title": title, "description": description, "pluginVersion": GRAFANA,
            "datasource": datasource(), "targets": [], "options": {},
            "fieldConfig": {"defaults": {"custom": {}, "unit": Unit::None.name()}, "overrides": []},
        });
        Self { width, height, json }
    }

    /// One number, as large as its tile.
    pub(crate) fn stat(title: &str, description: &str, size: (u64, u64)) -> Self {
        let mut panel = Self::new("stat", title, description, size);
        panel.json["options"] = json!({
            "colorMode": "background", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
            "percentChangeColorMode": "standard", "reduceOptions": last(), "showPercentChange": false,
            "textMode": "auto", "wideLayout": true,
        });
        panel.fixed_colour(BLUE)
    }

    /// Lines over time.
    pub(crate) fn lines(title: &str, description: &str, size: (u64, u64)) -> Self {
        let mut panel = Self::new("timeseries", title, description, size);
        panel.json["options"] = json!({
            "legend": {"calcs": ["lastNotNull"], "displayMode": "table", "placement": "bottom", "showLegend": true},
            "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": false},
        });
        let defaults = &mut panel.json["fieldConfig"]["defaults"];
        defaults["color"] = json!({"mode": "palette-classic"});
        defaults["custom"] = json!({
            "drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": false,
            "lineInterpolation": "linear", "stacking": {"group": "A", "mode": "none"},
        });
        panel
    }

    /// A row per series whose state changes over time.
    pub(crate) fn states(title: &str, description: &str, size: (u64, u64)) -> Self {
        let mut panel = Self::new("state-timeline", title, description, size);
        panel.json["options"] = json!({
            "alignValue": "left", "mergeValues": true, "rowHeight": 0.9, "showValue": "auto", "perPage": 20,
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": true},
            "tooltip": {"mode": "single", "sort": "none", "hideZeros": false},
        });
        let defaults = &mut panel.json["fieldConfig"]["defaults"];
        defaults["color"] = json!({"mode": "thresholds"});
        defaults["custom"] = json!({"fillOpacity": 80, "lineWidth": 0});
        defaults["thresholds"] = json!({"mode": "absolute", "steps": [{"color": GREY, "value": null}]});
        panel
    }

    /// A bar per series.
    pub(crate) fn bars(title: &str, description: &str, size: (u64, u64)) -> Self {
        let mut panel = Self::new("bargauge", title, description, size);
        panel.json["options"] = json!({
            "displayMode": "basic", "maxVizHeight": 40, "minVizHeight": 16, "minVizWidth": 8, "namePlacement": "left",
            "orientation": "horizontal", "reduceOptions": last(), "showUnfilled": true, "sizing": "auto",
            "valueMode": "color", "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false},
        });
        panel.json["fieldConfig"]["defaults"]["min"] = json!(0);
        panel.fixed_colour(BLUE)
    }

    /// Rows and columns; the queries are instant and their results one table.
    pub(crate) fn table(title: &str, description: &str, size: (u64, u64)) -> Self {
        let mut panel = Self::new("table", title, description, size);
        panel.json["options"] = json!({
            "cellHeight": "sm", "showHeader": true,
            "footer": {"countRows": false, "fields": [], "reducer": ["sum"], "show": false},
        });
        panel.json["fieldConfig"]["defaults"]["custom"] =
            json!({"align": "auto", "cellOptions": {"type": "auto"}, "inspect": false, "filterable": true});
        panel.json["transformations"] = json!([{"id": "merge", "options": {}}]);
        panel.fixed_colour(GREY)
    }

    /// How many values lie where, over time; `calculate` by this bucket size, or from buckets of a histogram.
    pub(crate) fn heatmap(title: &str, description: &str, size: (u64, u64), unit: Unit, bucket: Option<f64>) -> Self {
        let mut panel = Self::new("heatmap", title, description, size);
        panel.json["options"] = json!({
            "calculate": bucket.is_some(),
            "calculation": {"yBuckets": {"mode": "size", "value": bucket.unwrap_or(1.0).to_string()}},
            "cellGap": 1, "cellValues": {"unit": "none"}, "showValue": "never",
            "color": {
                "exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "reverse": false, "scale": "exponential",
                "scheme": "Oranges", "steps": 32,
            },
            "exemplars": {"color": "rgba(255,0,255,0.7)"}, "filterValues": {"le": 1e-9}, "legend": {"show": true},
            "rowsFrame": {"layout": "auto"}, "tooltip": {"mode": "single", "showColorScale": true, "yHistogram": false},
            "yAxis": {"axisPlacement": "left", "reverse": false, "unit": unit.name()},
        });
        panel.unit(unit)
    }

    /// Words that need no query.
    pub(crate) fn text(title: &str, description: &str, size: (u64, u64), markdown: &str) -> Self {
        let mut panel = Self::new("text", title, description, size);
        panel.json["options"] = json!({
            "mode": "markdown", "content": markdown,
            "code": {"language": "plaintext", "showLineNumbers": false, "showMiniMap": false},
        });
        panel
    }

    /// A query over the dashboard's time range.
    pub(crate) fn ask(self, expr: impl Into<String>, legend: &str) -> Self {
        self.target(expr.into(), legend, "time_series", false)
    }

    /// A query at the end of the time range; a table gets one column by it.
    pub(crate) fn ask_now(self, expr: impl Into<String>, legend: &str) -> Self {
        let format = if self.json["type"] == "table" { "table" } else { "time_series" };
        self.target(expr.into(), legend, format, true)
    }

    /// A query for a table of what was during the time range: a row per step.
    pub(crate) fn ask_steps(self, expr: impl Into<String>) -> Self {
        self.target(expr.into(), "", "table", false)
    }

    /// Cumulative buckets for a heatmap.
    pub(crate) fn ask_buckets(self, expr: impl Into<String>) -> Self {
        self.target(expr.into(), "{{le}}", "heatmap", false)
    }

    fn target(mut self, expr: String, legend: &str, format: &str, instant: bool) -> Self {
        let targets = self.json["targets"].as_array_mut().expect("targets are a list");
        let reference = char::from(b'A' + u8::try_from(targets.len()).expect("a handful of queries")).to_string();
        let legend = if legend.is_empty() { "__auto" } else { legend };
        targets.push(json!({
            "datasource": datasource(), "editorMode": "code", "expr": expr, "format": format, "instant": instant,
            "range": !instant, "legendFormat": legend, "refId": reference,
        }));
        self
    }

    /// A dashed line at a threshold in force: a cache's own override moves it.
    pub(crate) fn limit(self, threshold: Threshold) -> Self {
        let name = threshold.spec().name;
        let panel = self.ask(query::threshold(threshold), &format!("{name} ({{{{cache}}}})"));
        panel.last_query_as(&[
            ("color", json!({"mode": "fixed", "fixedColor": RED})),
            ("custom.lineStyle", json!({"fill": "dash", "dash": [8, 8]})),
            ("custom.fillOpacity", json!(0)),
            ("custom.stacking", json!({"group": "limits", "mode": "none"})),
            ("custom.hideFrom", json!({"legend": true, "tooltip": false, "viz": false})),
        ])
    }

    /// The last query's lines are dashed: what is usual, beside what is.
    pub(crate) fn dashed(self) -> Self {
        self.last_query_as(&[
            ("custom.lineStyle", json!({"fill": "dash", "dash": [4, 4]})),
            ("custom.fillOpacity", json!(0)),
            ("custom.stacking", json!({"group": "usual", "mode": "none"})),
        ])
    }

    fn last_query_as(mut self, properties: &[(&str, Value)]) -> Self {
        let targets = self.json["targets"].as_array().expect("targets are a list");
        let reference = targets.last().expect("a query before what is said of it")["refId"].clone();
        self.overridden(json!({"id": "byFrameRefID", "options": reference}), properties);
        self
    }

    fn overridden(&mut self, matcher: Value, properties: &[(&str, Value)]) {
        let properties: Vec<Value> = properties.iter().map(|(id, value)| json!({"id": id, "value": value})).collect();
        let overrides = self.json["fieldConfig"]["overrides"].as_array_mut().expect("overrides are a list");
        overrides.push(json!({"matcher": matcher, "properties": properties}));
    }

    /// A column of a table: the field's name in the result, its title, its unit.
    pub(crate) fn column(mut self, field: &str, title: &str, unit: Unit) -> Self {
        self.rename(field, title);
        self.overridden(by_name(title), &[("unit", json!(unit.name()))]);
        self
    }

    /// A column whose values are words on a coloured ground.
    pub(crate) fn column_of_words(mut self, field: &str, title: &str, words: &Words) -> Self {
        self.rename(field, title);
        let cell = json!({"type": "color-background", "mode": "basic"});
        self.overridden(by_name(title), &[("mappings", mappings(words)), ("custom.cellOptions", cell)]);
        self
    }

    /// A column coloured by thresholds: `(from, colour)`, the lowest first.
    pub(crate) fn column_by_steps(mut self, field: &str, title: &str, unit: Unit, steps: &[(f64, &str)]) -> Self {
        self.rename(field, title);
        let properties = [
            ("unit", json!(unit.name())),
            ("color", json!({"mode": "thresholds"})),
            ("thresholds", thresholds(GREY, steps)),
            ("custom.cellOptions", json!({"type": "color-text"})),
        ];
        self.overridden(by_name(title), &properties);
        self
    }

    /// A column that leads somewhere.
    pub(crate) fn column_with_link(mut self, field: &str, title: &str, tip: &str, url: &str) -> Self {
        self.rename(field, title);
        let links = json!([{"title": tip, "url": url, "targetBlank": false}]);
        self.overridden(by_name(title), &[("links", links)]);
        self
    }

    /// Fields that are no columns.
    pub(crate) fn without(mut self, fields: &[&str]) -> Self {
        let organize = self.organize();
        for field in fields {
            organize["options"]["excludeByName"][*field] = json!(true);
        }
        self
    }

    fn rename(&mut self, field: &str, title: &str) {
        let organize = self.organize();
        let place = organize["options"]["indexByName"].as_object().expect("an object").len();
        organize["options"]["indexByName"][field] = json!(place);
        organize["options"]["renameByName"][field] = json!(title);
    }

    /// The last transformation of a table: order and names of its columns.
    fn organize(&mut self) -> &mut Value {
        let list = self.json["transformations"].as_array_mut().expect("transformations are a list");
        if list.last().is_none_or(|last| last["id"] != "organize") {
            let options = json!({"excludeByName": {}, "includeByName": {}, "indexByName": {}, "renameByName": {}});
            list.push(json!({"id": "organize", "options": options}));
        }
        list.last_mut().expect("one was just there")
    }

    /// Rows of a table that agree in `keys` become one; of `(field, calculation)` that is kept.
    pub(crate) fn grouped(mut self, keys: &[&str], calculated: &[(&str, &str)]) -> Self {
        let mut fields = json!({});
        for key in keys {
            fields[*key] = json!({"operation": "groupby", "aggregations": []});
        }
        for (field, calculation) in calculated {
            fields[*field] = json!({"operation": "aggregate", "aggregations": [calculation]});
        }
        let list = self.json["transformations"].as_array_mut().expect("transformations are a list");
        list.push(json!({"id": "groupBy", "options": {"fields": fields}}));
        self
    }

    /// A table's first order.
    pub(crate) fn sorted(mut self, column: &str, descending: bool) -> Self {
        self.json["options"]["sortBy"] = json!([{"displayName": column, "desc": descending}]);
        self
    }

    pub(crate) fn unit(mut self, unit: Unit) -> Self {
        self.json["fieldConfig"]["defaults"]["unit"] = json!(unit.name());
        self
    }

    /// Digits after the point.
    pub(crate) fn decimals(mut self, decimals: u8) -> Self {
        self.json["fieldConfig"]["defaults"]["decimals"] = json!(decimals);
        self
    }

    /// Ends of the axis.
    pub(crate) fn range(mut self, min: f64, max: Option<f64>) -> Self {
        let defaults = &mut self.json["fieldConfig"]["defaults"];
        defaults["min"] = json!(min);
        if let Some(max) = max {
            defaults["max"] = json!(max);
        }
        self
    }

    /// Words for values.
    pub(crate) fn words(mut self, words: &Words) -> Self {
        let defaults = &mut self.json["fieldConfig"]["defaults"];
        defaults["mappings"] = mappings(words);
        defaults["color"] = json!({"mode": "thresholds"});
        self
    }

    /// Words for the values of the series of that name only.
    pub(crate) fn words_of(mut self, series: &str, words: &Words) -> Self {
        self.overridden(by_name(series), &[("mappings", mappings(words))]);
        self
    }

    /// Colour by value: `(from, colour)`, the lowest first; `base` below.
    pub(crate) fn steps(mut self, base: &str, steps: &[(f64, &str)]) -> Self {
        let defaults = &mut self.json["fieldConfig"]["defaults"];
        defaults["thresholds"] = thresholds(base, steps);
        defaults["color"] = json!({"mode": "thresholds"});
        self
    }

    fn fixed_colour(mut self, colour: &str) -> Self {
        let defaults = &mut self.json["fieldConfig"]["defaults"];
        defaults["color"] = json!({"mode": "thresholds"});
        defaults["thresholds"] = thresholds(colour, &[]);
        self
    }

    /// Lines on top of each other: their height is the sum.
    pub(crate) fn stacked(mut self) -> Self {
        let custom = &mut self.json["fieldConfig"]["defaults"]["custom"];
        custom["stacking"]["mode"] = json!("normal");
        custom["fillOpacity"] = json!(30);
        self
    }

    /// What stands there when nothing is to be shown, instead of an empty panel.
    pub(crate) fn or(mut self, text: &str) -> Self {
        self.json["fieldConfig"]["defaults"]["noValue"] = json!(text);
        self
    }

    fn at(self, id: u64, x: u64, y: u64) -> Value {
        let mut json = self.json;
        if json["type"] == "text" {
            let object = json.as_object_mut().expect("a panel is an object");
            object.remove("targets");
            object.remove("fieldConfig");
        }
        json["id"] = json!(id);
        json["gridPos"] = json!({"h": self.height, "w": self.width, "x": x, "y": y});
        json
    }
}

/// Panels under a heading.
pub(crate) struct Row {
    title: String,
    collapsed: bool,
    panels: Vec<Panel>,
}

impl Row {
    pub(crate) fn open(title: &str, panels: Vec<Panel>) -> Self {
        Self { title: title.to_owned(), collapsed: false, panels }
    }

    /// Not shown, and not asked, until somebody opens it.
    pub(crate) fn closed(title: &str, panels: Vec<Panel>) -> Self {
        Self { title: title.to_owned(), collapsed: true, panels }
    }
}

/// One dashboard.
pub(crate) struct Dashboard {
    /// What `/d/…` leads to; alerts know it.
    pub(crate) uid: &'static str,
    pub(crate) title: &'static str,
    /// The question it answers.
    pub(crate) question: &'static str,
    /// Start of the time range that is shown first, such as `now-1h`.
    pub(crate) from: &'static str,
    /// Whether one cache is looked at, or any number of them.
    pub(crate) one_cache: bool,
    pub(crate) rows: Vec<Row>,
}

impl Dashboard {
    pub(crate) fn json(self) -> Value {
        let (mut panels, mut id, mut y) = (Vec::new(), 0, 0);
        for row in self.rows {
            id += 1;
            let heading = id;
            let (mut placed, mut x, mut line) = (Vec::new(), 0, 0);
            let top = y;
            y += 1;
            for panel in row.panels {
                if x + panel.width > COLUMNS {
                    (x, y, line) = (0, y + line, 0);
                }
                id += 1;
                let (width, height) = (panel.width, panel.height);
                placed.push(panel.at(id, x, y));
                (x, line) = (x + width, line.max(height));
            }
            y += line;
            let inside = if row.collapsed { std::mem::take(&mut placed) } else { Vec::new() };
            if row.collapsed {
                y = top + 1;
            }
            panels.push(json!({
                "type": "row", "title": row.title, "id": heading, "collapsed": row.collapsed, "panels": inside,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
            }));
            panels.append(&mut placed);
        }
        json!({
            "uid": self.uid, "title": self.title, "description": self.question, "tags": [TAG], "schemaVersion": 41,
            "editable": false, "graphTooltip": 1, "timezone": "browser", "refresh": "10s", "version": 1,
            "fiscalYearStartMonth": 0, "time": {"from": self.from, "to": "now"}, "timepicker": {},
            "links": links(), "annotations": {"list": annotations()}, "panels": panels,
            "templating": {"list": variables(self.one_cache)},
        })
    }
}

/// The queries that annotations ask: name, colour, expression.
fn events() -> [(&'static str, &'static str, String); 3] {
    [
        ("Storm begins", RED, query::storm_begins()),
        ("Storm ends", GREEN, query::storm_ends()),
        ("Failover", PURPLE, query::failover()),
    ]
}

fn annotations() -> Vec<Value> {
    let by_hand = json!({
        "name": "Annotations & Alerts", "builtIn": 1, "type": "dashboard", "enable": true, "hide": true,
        "iconColor": "rgba(0, 211, 255, 1)", "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "target": {"limit": 100, "matchAny": false, "tags": [], "type": "dashboard"},
    });
    let ours = events().into_iter().map(|(name, colour, expr)| {
        json!({"name": name, "enable": true, "hide": false, "iconColor": colour, "expr": expr, "datasource": datasource()})
    });
    std::iter::once(by_hand).chain(ours).collect()
}

fn links() -> Vec<Value> {
    let link = |title: &str, kind: &str, icon: &str, url: String, tip: &str| {
        let tags = if kind == "dashboards" { json!([TAG]) } else { json!([]) };
        let ours = kind == "dashboards";
        json!({
            "title": title, "type": kind, "icon": icon, "url": url, "tags": tags, "tooltip": tip, "asDropdown": false,
            "includeVars": ours, "keepTime": ours, "targetBlank": !ours,
        })
    };
    vec![
        link("Cache storm", "dashboards", "dashboard", String::new(), "The other dashboards, same cache and time"),
        link("Runbooks", "link", "doc", format!("{DOCS}/runbooks/README.md"), "One page per alert: what to do"),
        link("How it detects", "link", "question", format!("{DOCS}/detection.md"), "Every rule and every number"),
    ]
}

fn variables(one_cache: bool) -> Vec<Value> {
    let choice = |name: &str, label: &str, values: &str, single: bool| {
        let all = json!({"selected": true, "text": "All", "value": "$__all"});
        json!({
            "type": "query", "name": name, "label": label, "query": values, "datasource": datasource(), "refresh": 2,
            "sort": 1, "multi": !single, "includeAll": !single, "allValue": ".+", "regex": "", "hide": 0, "options": [],
            "skipUrlSync": false, "current": if single { json!({"text": "", "value": ""}) } else { all },
        })
    };
    vec![
        json!({
            "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1,
            "regex": "", "hide": 0, "options": [], "includeAll": false, "multi": false, "skipUrlSync": false,
            "current": {"selected": true, "text": "default", "value": "default"},
        }),
        choice("job", "Job", "label_values(cache_storm_exporter_build_info, job)", false),
        choice("cache", "Cache", "label_values(cache_storm_severity{job=~\"$job\"}, cache)", one_cache),
        choice(
            "role",
            "Role",
            "label_values(cache_storm_node_info{job=~\"$job\", cache=~\"$cache\", role!=\"\"}, role)",
            false,
        ),
        choice(
            "cache_node",
            "Node",
            "label_values(cache_storm_node_up{job=~\"$job\", cache=~\"$cache\"}, cache_node)",
            false,
        ),
    ]
}

/// The chosen data source.
fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn last() -> Value {
    json!({"calcs": ["lastNotNull"], "fields": "", "values": false})
}

fn by_name(title: &str) -> Value {
    json!({"id": "byName", "options": title})
}

fn mappings(words: &Words) -> Value {
    let mut options = json!({});
    for (index, (value, word, colour)) in words.iter().enumerate() {
        options[value.as_str()] = json!({"text": word, "color": colour, "index": index});
    }
    json!([{"type": "value", "options": options}])
}

fn thresholds(base: &str, steps: &[(f64, &str)]) -> Value {
    let mut list = vec![json!({"color": base, "value": null})];
    list.extend(steps.iter().map(|(from, colour)| json!({"color": colour, "value": from})));
    json!({"mode": "absolute", "steps": list})
}
