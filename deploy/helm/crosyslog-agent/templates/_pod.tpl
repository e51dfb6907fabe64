{{/*
A setting's value so that the agent reads what was written: YAML makes 1000000 a float, which would
be 1e+06, and Kubernetes makes $$ a $ and looks for variables in $(NAME).
*/}}
{{- define "crosyslog.value" -}}
{{- $text := toString . -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{- $text = printf "%.0f" . -}}{{- end -}}
{{- $text | replace "$" "$$" -}}
{{- end -}}

{{- define "crosyslog.image" -}}
{{- $image := .Values.image -}}
{{- $tag := $image.tag -}}
{{- if not (or $tag $image.digest) -}}{{- $tag = .Chart.AppVersion -}}{{- end -}}
{{- $image.repository -}}
{{- with $tag -}}:{{- . -}}{{- end -}}
{{- with $image.digest -}}@{{- . -}}{{- end -}}
{{- end -}}

{{- define "crosyslog.pod" -}}
{{- $kafka := .Values.kafka -}}
metadata:
  labels:
    {{- include "crosyslog.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "crosyslog.serviceAccount" . | quote }}
  automountServiceAccountToken: false
  # A Service's address in a variable that begins with CROSYSLOG_ is no setting.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds | int64 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: agent
      image: {{ include "crosyslog.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      ports:
        - name: metrics
          containerPort: 9464
      env:
        - name: CROSYSLOG_HTTP__HOST
          value: "0.0.0.0"
        - name: CROSYSLOG_HTTP__PORT
          value: "9464"
        - name: CROSYSLOG_MODEL__STORE
          value: {{ include "crosyslog.value" (.Values.store.url | default "/var/lib/crosyslog/models") | quote }}
        - name: CROSYSLOG_ENCODER__CACHE
          value: /var/cache/crosyslog/templates
        {{- if eq .Values.kind "StatefulSet" }}
        - name: CROSYSLOG_KAFKA__GROUP_INSTANCE_ID
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- end }}
        {{- with $kafka.sasl.existingSecret }}
        - name: CROSYSLOG_KAFKA__SASL_PASSWORD_FILE
          value: /etc/crosyslog/sasl/password
        {{- if $kafka.sasl.usernameKey }}
        - name: CROSYSLOG_KAFKA__SASL_USERNAME
          valueFrom:
            secretKeyRef:
              name: {{ . | quote }}
              key: {{ $kafka.sasl.usernameKey | quote }}
        {{- end }}
        {{- end }}
        {{- if $kafka.tls.existingSecret }}
        {{- if $kafka.tls.caKey }}
        - name: CROSYSLOG_KAFKA__SSL_CA_FILE
          value: /etc/crosyslog/tls/ca.crt
        {{- end }}
        {{- if $kafka.tls.certificateKey }}
        - name: CROSYSLOG_KAFKA__SSL_CERTIFICATE_FILE
          value: /etc/crosyslog/tls/tls.crt
        - name: CROSYSLOG_KAFKA__SSL_KEY_FILE
          value: /etc/crosyslog/tls/tls.key
        {{- end }}
        {{- end }}
        {{- range $part, $names := .Values.settings }}
        {{- range $name, $value := $names }}
        - name: CROSYSLOG_{{ upper $part }}__{{ upper $name }}
          value: {{ include "crosyslog.value" $value | quote }}
        {{- end }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      # The model loads, and partitions are assigned, within five minutes.
      startupProbe:
        httpGet: {path: /startupz, port: metrics}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 60
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      # Only a loop that no longer turns is helped by a restart; a broker that is away is not.
      livenessProbe:
        httpGet: {path: /livez, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: cache
          mountPath: /var/cache/crosyslog
        {{- if not .Values.store.url }}
        - name: models
          mountPath: /var/lib/crosyslog/models
          {{- if .Values.store.existingClaim }}
          readOnly: true
          {{- end }}
        {{- end }}
        {{- if $kafka.sasl.existingSecret }}
        - name: sasl
          mountPath: /etc/crosyslog/sasl
          readOnly: true
        {{- end }}
        {{- if $kafka.tls.existingSecret }}
        - name: tls
          mountPath: /etc/crosyslog/tls
          readOnly: true
        {{- end }}
  volumes:
    {{- if not .Values.cache.volumeClaim.enabled }}
    - name: cache
      emptyDir:
        sizeLimit: {{ .Values.cache.sizeLimit | quote }}
    {{- end }}
    {{- if .Values.store.existingClaim }}
    - name: models
      persistentVolumeClaim:
        claimName: {{ .Values.store.existingClaim | quote }}
        readOnly: true
    {{- else if not .Values.store.url }}
    - name: models
      emptyDir: {}
    {{- end }}
    {{- with $kafka.sasl.existingSecret }}
    - name: sasl
      secret:
        secretName: {{ . | quote }}
        items:
          - key: {{ $kafka.sasl.passwordKey | quote }}
            path: password
    {{- end }}
    {{- with $kafka.tls.existingSecret }}
    - name: tls
      secret:
        secretName: {{ . | quote }}
        items:
          {{- with $kafka.tls.caKey }}
          - key: {{ . | quote }}
            path: ca.crt
          {{- end }}
          {{- with $kafka.tls.certificateKey }}
          - key: {{ . | quote }}
            path: tls.crt
          {{- end }}
          {{- with $kafka.tls.keyKey }}
          - key: {{ . | quote }}
            path: tls.key
          {{- end }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
