//! A walker for the part of JSON schema that PortOne's description uses: `$ref`, `properties`, `required`, `enum`,
//! `oneOf` with a discriminator, `items`, `type` and `format`. Anything else in a schema is an error, so that the
//! description cannot grow a rule that is silently not checked.

use serde_json::{Map, Value};

const KNOWN: [&str; 10] = [
    "$ref",
    "properties",
    "required",
    "enum",
    "oneOf",
    "discriminator",
    "items",
    "type",
    "format",
    "title",
];

/// An official description.
pub struct Description(Value);

impl Description {
    pub fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).expect("the description is JSON"))
    }

    /// Checks an answer of `method path` with this status. An error says where it is wrong.
    pub fn check(&self, method: &str, path: &str, status: u16, body: &Value) -> Result<(), String> {
        let response = &self.0["paths"][path][method]["responses"][status.to_string()];
        let schema = &response["content"]["application/json"]["schema"];
        if schema.is_null() {
            return Err(format!(
                "{method} {path} does not describe an answer with status {status}"
            ));
        }
        self.walk(schema, body, "$")
    }

    fn walk(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let fields = schema
            .as_object()
            .ok_or_else(|| format!("{at}: the schema is not an object"))?;
        if let Some(unknown) = fields
            .keys()
            .find(|key| !KNOWN.contains(&key.as_str()) && !key.starts_with("x-"))
        {
            return Err(format!("{at}: the walker does not know {unknown}"));
        }
        if let Some(reference) = fields.get("$ref") {
            return self.walk(self.resolve(reference)?, value, at);
        }
        if fields.contains_key("oneOf") {
            return self.walk(self.choose(fields, value, at)?, value, at);
        }
        if let Some(Value::Array(allowed)) = fields.get("enum")
            && !allowed.contains(value)
        {
            return Err(format!("{at}: {value} is not one of the enumeration"));
        }
        match fields.get("type").and_then(Value::as_str) {
            Some("object") => self.object(fields, value, at),
            Some("array") => {
                let items = value
                    .as_array()
                    .ok_or_else(|| format!("{at}: {value} is not an array"))?;
                let mut each = items.iter().enumerate();
                each.try_for_each(|(index, item)| self.walk(&schema["items"], item, &format!("{at}[{index}]")))
            }
            Some("string") => text(fields, value, at),
            Some("integer") => integer(fields, value, at),
            Some("boolean") if value.is_boolean() => Ok(()),
            Some(other) => Err(format!("{at}: {value} is not of type {other}")),
            None => Err(format!("{at}: the schema has no type")),
        }
    }

    fn resolve(&self, reference: &Value) -> Result<&Value, String> {
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
        let found = pointer.and_then(|pointer| self.0.pointer(pointer));
        found.ok_or_else(|| format!("{reference} leads nowhere"))
    }

    /// The case that the discriminator names.
    fn choose<'a>(&'a self, fields: &'a Map<String, Value>, value: &Value, at: &str) -> Result<&'a Value, String> {
        let discriminator = &fields["discriminator"];
        let name = discriminator["propertyName"]
            .as_str()
            .ok_or_else(|| format!("{at}: no discriminator"))?;
        let case = value[name]
            .as_str()
            .ok_or_else(|| format!("{at}.{name} is missing in {value}"))?;
        match discriminator["mapping"].get(case) {
            Some(reference) => self.resolve(reference),
            None => Err(format!("{at}.{name}: {case} is not among the cases")),
        }
    }

    /// Fields that are not described are errors too: the simulator must not invent any.
    fn object(&self, fields: &Map<String, Value>, value: &Value, at: &str) -> Result<(), String> {
        let object = value
            .as_object()
            .ok_or_else(|| format!("{at}: {value} is not an object"))?;
        let required = fields.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            if !object.contains_key(name) {
                return Err(format!("{at}.{name} is required"));
            }
        }
        for (name, value) in object {
            let path = format!("{at}.{name}");
            let schema = fields.get("properties").and_then(|properties| properties.get(name));
            self.walk(schema.ok_or_else(|| format!("{path} is not described"))?, value, &path)?;
        }
        Ok(())
    }
}

fn text(fields: &Map<String, Value>, value: &Value, at: &str) -> Result<(), String> {
    let text = value.as_str().ok_or_else(|| format!("{at}: {value} is not a string"))?;
    match fields.get("format").and_then(Value::as_str) {
        None => Ok(()),
        Some("date-time") => match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{at}: {text} is not a time: {error}")),
        },
        Some(other) => Err(format!("{at}: the walker does not know the format {other}")),
    }
}

fn integer(fields: &Map<String, Value>, value: &Value, at: &str) -> Result<(), String> {
    let number = value
        .as_i64()
        .ok_or_else(|| format!("{at}: {value} is not an integer"))?;
    match fields.get("format").and_then(Value::as_str) {
        Some("int32") if i32::try_from(number).is_err() => Err(format!("{at}: {number} is beyond 32 bits")),
        None | Some("int32" | "int64") => Ok(()),
        Some(other) => Err(format!("{at}: the walker does not know the format {other}")),
    }
}

#[test]
fn the_walker_finds_what_is_wrong() {
    let description = Description::parse(
        r##"{"paths": {"/x": {"get": {"responses": {"200": {"content": {"application/json": {"schema":
             {"$ref": "#/components/schemas/Shape"}}}}}}}},
            "components": {"schemas": {
              "Shape": {"oneOf": [{"$ref": "#/components/schemas/Dot"}],
                        "discriminator": {"propertyName": "kind", "mapping": {"DOT": "#/components/schemas/Dot"}}},
              "Dot": {"type": "object", "required": ["kind", "at"], "properties": {
                "kind": {"type": "string"}, "at": {"type": "string", "format": "date-time"},
                "size": {"type": "integer", "format": "int32"}, "on": {"type": "boolean"},
                "colour": {"type": "string", "enum": ["RED"]},
                "tags": {"type": "array", "items": {"type": "string"}}, "odd": {"type": "string", "pattern": "x"}}}}}}"##,
    );
    let check = |body: Value| description.check("get", "/x", 200, &body);
    let dot = serde_json::json!({"kind": "DOT", "at": "2026-03-02T04:05:06Z", "size": 1, "on": true, "colour": "RED", "tags": ["a"]});
    assert_eq!(check(dot.clone()), Ok(()));
    let spoilt = [
        ("kind", serde_json::json!("LINE"), "not among the cases"),
        ("at", serde_json::json!("yesterday"), "not a time"),
        ("at", Value::Null, "not a string"),
        ("size", serde_json::json!(2_147_483_648_i64), "beyond 32 bits"),
        ("size", serde_json::json!(1.5), "not an integer"),
        ("on", serde_json::json!("yes"), "not of type boolean"),
        ("colour", serde_json::json!("BLUE"), "enumeration"),
        ("tags", serde_json::json!(["a", 1]), "$.tags[1]"),
        ("extra", serde_json::json!(1), "not described"),
        ("odd", serde_json::json!("x"), "does not know pattern"),
    ];
    for (name, value, expected) in spoilt {
        let mut body = dot.clone();
        body[name] = value;
        let error = check(body).expect_err(name);
        assert!(error.contains(expected), "{name}: {error}");
    }
    assert!(
        check(serde_json::json!({"kind": "DOT"}))
            .expect_err("at is missing")
            .contains("required")
    );
    assert!(description.check("get", "/x", 404, &dot).is_err());
}
