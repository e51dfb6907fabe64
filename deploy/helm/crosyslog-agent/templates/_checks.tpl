{{/* What the schema cannot say: values that contradict each other. */}}
{{- define "crosyslog.check" -}}
{{- include "crosyslog.checkNames" . -}}
{{- include "crosyslog.checkDurations" . -}}
{{- include "crosyslog.checkTopics" . -}}
{{- include "crosyslog.checkPorts" . -}}
{{- include "crosyslog.checkScaling" . -}}
{{- $kafka := .Values.settings.kafka -}}
{{- $protocol := $kafka.security_protocol | default "PLAINTEXT" -}}
{{- $sasl := .Values.kafka.sasl -}}
{{- $tls := .Values.kafka.tls -}}
{{- $withToken := eq ($kafka.sasl_mechanism | default "PLAIN") "OAUTHBEARER" -}}
{{- if and (hasPrefix "SASL" $protocol) (not $withToken) (not $sasl.existingSecret) -}}
{{- fail (printf "settings.kafka.security_protocol=%s needs kafka.sasl.existingSecret, the Secret with the password" $protocol) -}}
{{- end -}}
{{- if and (hasPrefix "SASL" $protocol) $withToken -}}
{{- if not $kafka.sasl_token_command -}}
{{- fail "settings.kafka.sasl_mechanism=OAUTHBEARER needs settings.kafka.sasl_token_command, the program that prints a token" -}}
{{- end -}}
{{- if or $sasl.existingSecret (hasKey $kafka "sasl_username") -}}
{{- fail "settings.kafka.sasl_mechanism=OAUTHBEARER takes a token alone: leave out kafka.sasl.existingSecret and settings.kafka.sasl_username" -}}
{{- end -}}
{{- else if hasKey $kafka "sasl_token_command" -}}
{{- fail "settings.kafka.sasl_token_command needs SASL_SSL or SASL_PLAINTEXT as settings.kafka.security_protocol, and settings.kafka.sasl_mechanism=OAUTHBEARER" -}}
{{- end -}}
{{- if and (hasKey $kafka "sasl_username") (not (hasPrefix "SASL" $protocol)) -}}
{{- fail (printf "settings.kafka.sasl_username is set and settings.kafka.security_protocol=%s: use SASL_SSL or SASL_PLAINTEXT with it" $protocol) -}}
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
{{- if and (eq .Values.autoscaling.kind "keda") (hasPrefix "SASL" $protocol) -}}
{{- if $withToken -}}
{{- fail "autoscaling.kind=keda cannot ask for the lag with OAUTHBEARER here: use hpa" -}}
{{- end -}}
{{- if not $sasl.usernameKey -}}
{{- fail "autoscaling.kind=keda with SASL reads the user's name from the Secret: set kafka.sasl.usernameKey in place of settings.kafka.sasl_username" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Services have stricter names than releases; labels that select may not be given twice. */}}
{{- define "crosyslog.checkNames" -}}
{{- $name := include "crosyslog.name" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "the release's name %s makes %s, which no Service can be called: take a name of a-z, 0-9 and -, with a letter first" .Release.Name $name) -}}
{{- end -}}
{{- $own := include "crosyslog.labels" . | fromYaml -}}
{{- range $value, $labels := dict "podLabels" .Values.podLabels "serviceMonitor.labels" .Values.serviceMonitor.labels "prometheusRule.labels" .Values.prometheusRule.labels "dashboards.labels" .Values.dashboards.labels -}}
{{- range $label, $_ := $labels -}}
{{- if hasKey $own $label -}}
{{- fail (printf "%s: the chart itself sets %s; leave it out" $value $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A schema cannot compare 2h with 1800. */}}
{{- define "crosyslog.checkDurations" -}}
{{- $settings := .Values.settings -}}
{{- range $part, $names := .Files.Get "files/durations.json" | fromJson -}}
{{- range $name, $limits := $names -}}
{{- $text := dig $part $name "" $settings -}}
{{- if kindIs "string" $text -}}
{{- if $text -}}
{{- $unit := regexFind "[a-z]+$" $text | default "s" -}}
{{- $seconds := mulf (float64 (regexFind "^[0-9.]+" $text)) (get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0) $unit) -}}
{{- if or (lt $seconds $limits.least) (gt $seconds $limits.most) -}}
{{- fail (printf "settings.%s.%s=%s is impossible; allowed: %v to %v seconds" $part $name $text $limits.least $limits.most) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "crosyslog.checkTopics" -}}
{{- $kafka := .Values.settings.kafka -}}
{{- $events := $kafka.output_topic | default (printf "%s.anomalies" $kafka.topic) -}}
{{- $letters := $kafka.dead_letter_topic | default (printf "%s.dlq" $kafka.topic) -}}
{{- if eq $events $kafka.topic -}}
{{- fail (printf "settings.kafka.output_topic=%s is the topic that is read: name another" $events) -}}
{{- end -}}
{{- if has $letters (list $kafka.topic $events) -}}
{{- fail (printf "settings.kafka.dead_letter_topic=%s is the topic that is read, or that of the events: name another" $letters) -}}
{{- end -}}
{{- end -}}

{{/* Rules of one's own may open any port. */}}
{{- define "crosyslog.checkPorts" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and $policy.enabled (not $policy.extraEgress) -}}
{{- $open := list -}}
{{- range $policy.kafkaPorts -}}{{- $open = append $open (int64 .) -}}{{- end -}}
{{- range splitList "," .Values.settings.kafka.bootstrap_servers -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" .) | default "9092" | int64 -}}
{{- if not (has $port $open) -}}
{{- fail (printf "networkPolicy.kafkaPorts lacks %d, the port of %s in settings.kafka.bootstrap_servers: add it, and those of all listeners that the brokers advertise" $port .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "crosyslog.checkScaling" -}}
{{- if lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas) -}}
{{- fail "autoscaling.maxReplicas is less than autoscaling.minReplicas" -}}
{{- end -}}
{{- if eq .Values.autoscaling.kind "hpa" -}}
{{- /* What is not requested but limited is requested up to the limit. */ -}}
{{- $requests := (.Values.resources | default dict).requests | default dict -}}
{{- $limits := (.Values.resources | default dict).limits | default dict -}}
{{- $cpu := toString (hasKey $requests "cpu" | ternary $requests.cpu ($limits.cpu | default "0")) -}}
{{- if regexMatch "^(<nil>|0*(\\.0*)?m?)$" $cpu -}}
{{- fail "autoscaling.kind=hpa compares with what is requested: set resources.requests.cpu" -}}
{{- end -}}
{{- end -}}
{{- end -}}
