{{/* What the schema cannot say: values that contradict each other. */}}
{{- define "crosyslog.check" -}}
{{- $kafka := .Values.settings.kafka -}}
{{- $protocol := $kafka.security_protocol | default "PLAINTEXT" -}}
{{- $sasl := .Values.kafka.sasl -}}
{{- $tls := .Values.kafka.tls -}}
{{- $withToken := eq ($kafka.sasl_mechanism | default "PLAIN") "OAUTHBEARER" -}}
{{- if and (hasPrefix "SASL" $protocol) (not $withToken) (not $sasl.existingSecret) -}}
{{- fail (printf "settings.kafka.security_protocol=%s needs kafka.sasl.existingSecret, the Secret with the password" $protocol) -}}
{{- end -}}
{{- if and $sasl.existingSecret (not (hasPrefix "SASL" $protocol)) -}}
{{- fail (printf "kafka.sasl.existingSecret is set and settings.kafka.security_protocol=%s: use SASL_SSL or SASL_PLAINTEXT with it" $protocol) -}}
{{- end -}}
{{- if and $sasl.existingSecret (not $sasl.usernameKey) (not $kafka.sasl_username) -}}
{{- fail "kafka.sasl.existingSecret needs the user's name: settings.kafka.sasl_username or kafka.sasl.usernameKey" -}}
{{- end -}}
{{- if and $sasl.usernameKey $kafka.sasl_username -}}
{{- fail "settings.kafka.sasl_username and kafka.sasl.usernameKey both say the user's name: leave one out" -}}
{{- end -}}
{{- if and $tls.existingSecret (not (hasSuffix "SSL" $protocol)) -}}
{{- fail (printf "kafka.tls.existingSecret is set and settings.kafka.security_protocol=%s: use SSL or SASL_SSL with it" $protocol) -}}
{{- end -}}
{{- if ne (empty $tls.certificateKey) (empty $tls.keyKey) -}}
{{- fail "kafka.tls.certificateKey and kafka.tls.keyKey go together: set both, or none" -}}
{{- end -}}
{{- if and .Values.store.url .Values.store.existingClaim -}}
{{- fail "store.url and store.existingClaim are both set: models are in one place" -}}
{{- end -}}
{{- if and .Values.cache.volumeClaim.enabled (ne .Values.kind "StatefulSet") -}}
{{- fail "cache.volumeClaim.enabled needs kind=StatefulSet, where each pod has a volume of its own" -}}
{{- end -}}
{{- if lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas) -}}
{{- fail "autoscaling.maxReplicas is less than autoscaling.minReplicas" -}}
{{- end -}}
{{- if and (eq .Values.autoscaling.kind "keda") (hasPrefix "SASL" $protocol) -}}
{{- if $withToken -}}
{{- fail "autoscaling.kind=keda cannot ask for the lag with OAUTHBEARER here: use hpa" -}}
{{- end -}}
{{- if not $sasl.usernameKey -}}
{{- fail "autoscaling.kind=keda with SASL reads the user's name from the Secret: set kafka.sasl.usernameKey in place of settings.kafka.sasl_username" -}}
{{- end -}}
{{- end -}}
{{- end -}}
