"""What values the chart takes, as JSON Schema; the agent's settings are taken from the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, BeforeValidator

from agent.settings import Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

#: Settings that other values of the chart are for, or that a pod cannot choose.
ELSEWHERE = {
    "encoder.cache",
    "http.host",
    "http.port",
    "kafka.group_instance_id",
    "kafka.sasl_password",
    "kafka.ssl_ca_file",
    "kafka.ssl_certificate_file",
    "kafka.ssl_key_file",
    "model.store",
}

_LIMITS = ("minimum", "maximum", "minLength", "pattern")

#: What the agent reads as a duration, and as a time with its zone.
_DURATION = r"^\d+(\.\d+)? ?(ms|s|m|h)?$"
_TIME = (
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]([01]\d|2[0-3]):[0-5]\d"
    r"(:[0-5]\d(\.\d{1,6})?)?([Zz]|[+-]([01]\d|2[0-3]):?[0-5]\d)"
)

_Schema = dict[str, Any]

_TEXT: _Schema = {"type": "string"}
_NAME: _Schema = {"type": "string", "minLength": 1}
_SWITCH: _Schema = {"type": "boolean"}
#: Kubernetes' own numbers are of 32 bits.
_MOST = 2**31 - 1
_COUNT: _Schema = {"type": "integer", "minimum": 1, "maximum": _MOST}
_SIZE: _Schema = {"type": "string", "pattern": r"^\d+(\.\d+)?([kMGT]i?)?$"}
_PORT: _Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
_TEXTS: _Schema = {"type": "object", "additionalProperties": {"type": "string"}}
#: What Kubernetes itself checks.
_OBJECT: _Schema = {"type": "object"}
_LIST: _Schema = {"type": "array", "items": {"type": "object"}}


def _closed(properties: dict[str, _Schema], required: tuple[str, ...] = ()) -> _Schema:
    schema: _Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    if required:
        schema["required"] = list(required)
    return schema


def build() -> _Schema:
    """The schema of values.yaml; draft 7, which every Helm 3 reads."""
    values = _closed(
        {
            # Helm gives it to every chart that is part of another.
            "global": _OBJECT,
            "image": _closed(
                {
                    # Tag and digest are values of their own.
                    "repository": {
                        "type": "string",
                        "pattern": r"^[^\s:@]+(:\d+/[^\s:@]+)?$",
                    },
                    "tag": {"type": "string", "pattern": r"^$|^\w[\w.-]{0,127}$"},
                    "digest": {"type": "string", "pattern": r"^$|^sha256:[0-9a-f]{64}$"},
                    "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
                }
            ),
            "imagePullSecrets": _LIST,
            "kind": {"enum": ["StatefulSet", "Deployment"]},
            "replicas": {"type": "integer", "minimum": 0, "maximum": _MOST},
            "settings": _settings(),
            "kafka": _closed(
                {
                    "sasl": _closed(
                        {"existingSecret": _TEXT, "passwordKey": _NAME, "usernameKey": _TEXT}
                    ),
                    "tls": _closed(
                        {
                            "existingSecret": _TEXT,
                            "caKey": _TEXT,
                            "certificateKey": _TEXT,
                            "keyKey": _TEXT,
                        }
                    ),
                }
            ),
            "store": _closed(
                {
                    "url": {"type": "string", "pattern": r"^$|^(s3|gs)://.+"},
                    "existingClaim": _TEXT,
                }
            ),
            "cache": _closed(
                {
                    "sizeLimit": _SIZE,
                    "volumeClaim": _closed(
                        {"enabled": _SWITCH, "size": _SIZE, "storageClassName": _TEXT}
                    ),
                }
            ),
            "resources": _OBJECT,
            # A stop takes up to 10 s.
            "terminationGracePeriodSeconds": {
                "type": "integer",
                "minimum": 15,
                "maximum": _MOST,
            },
            "autoscaling": _closed(
                {
                    "kind": {"enum": ["none", "hpa", "keda"]},
                    "minReplicas": _COUNT,
                    "maxReplicas": _COUNT,
                    "targetCPU": _COUNT,
                    "lagThreshold": _COUNT,
                    "scaleDownSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
                }
            ),
            "podDisruptionBudget": _closed(
                {
                    "enabled": _SWITCH,
                    "maxUnavailable": {
                        "anyOf": [_COUNT, {"type": "string", "pattern": r"^([1-9]\d?|100)%$"}]
                    },
                }
            ),
            "serviceAccount": _closed({"create": _SWITCH, "name": _TEXT, "annotations": _TEXTS}),
            "networkPolicy": _closed(
                {
                    "enabled": _SWITCH,
                    "metricsFrom": _LIST,
                    "kafkaTo": _LIST,
                    "kafkaPorts": {"type": "array", "items": _PORT, "minItems": 1},
                    "extraEgress": _LIST,
                }
            ),
            "serviceMonitor": _closed(
                {
                    "enabled": _SWITCH,
                    "interval": {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"},
                    "labels": _TEXTS,
                }
            ),
            "prometheusRule": _closed({"enabled": _SWITCH, "labels": _TEXTS}),
            "dashboards": _closed({"enabled": _SWITCH, "labels": _TEXTS, "annotations": _TEXTS}),
            "podAnnotations": _TEXTS,
            "podLabels": _TEXTS,
            "nodeSelector": _TEXTS,
            "tolerations": _LIST,
            "affinity": _OBJECT,
            "topologySpreadConstraints": _LIST,
            "priorityClassName": _TEXT,
            "extraEnv": _LIST,
            "extraEnvFrom": _LIST,
        },
        ("settings",),
    )
    return {"$schema": "http://json-schema.org/draft-07/schema#", **values}


def durations() -> dict[str, dict[str, dict[str, float]]]:
    """The limits of each duration in seconds, by part and name: a schema has them for no text."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for part, kind in _parts():
        published = kind.model_json_schema()["properties"]
        for name, field in kind.model_fields.items():
            if _is_duration(field):
                limits = {"least": published[name]["ge"], "most": published[name]["le"]}
                found.setdefault(part, {})[name] = limits
    return found


def _parts() -> list[tuple[str, type[BaseModel]]]:
    parts: list[tuple[str, type[BaseModel]]] = []
    for part, outer in Settings.model_fields.items():
        kind = outer.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            raise TypeError(f"the part {part} of the settings is no model")
        parts.append((part, kind))
    return parts


def _is_duration(field: FieldInfo) -> bool:
    return field.annotation is float and any(
        isinstance(one, BeforeValidator) for one in field.metadata
    )


def _settings() -> _Schema:
    parts: dict[str, _Schema] = {}
    for part, kind in _parts():
        published = kind.model_json_schema()["properties"]
        properties = {
            name: _setting(published[name], field)
            for name, field in kind.model_fields.items()
            if f"{part}.{name}" not in ELSEWHERE
        }
        if properties:
            needed = ("bootstrap_servers", "topic") if part == "kafka" else ()
            parts[part] = _closed(properties, needed)
    return _closed(parts, ("kafka",))


def _setting(published: _Schema, field: FieldInfo) -> _Schema:
    """A setting's schema: what the agent publishes, less its default and that it may be null."""
    kinds = [one for one in published.get("anyOf", [published]) if one.get("type") != "null"]
    description = {"description": field.description}
    if len(kinds) > 1:
        # Words and a time, in one string.
        words, time = kinds
        if time.get("format") != "date-time":
            raise TypeError(f"{published['title']}: only words and a time are known here")
        pattern = f"^({'|'.join(words['enum'])}|{_TIME})$"
        return {"type": "string", "pattern": pattern, **description}
    (kind,) = kinds
    if "enum" in kind:
        return {"enum": kind["enum"], **description}
    if _is_duration(field):
        # Seconds, or text such as 100ms.
        limits = {"minimum": kind["ge"], "maximum": kind["le"], "pattern": _DURATION}
        return {"type": ["number", "string"], **limits, **description}
    limits = {name: value for name, value in kind.items() if name in _LIMITS}
    return {"type": kind["type"], **limits, **description}
