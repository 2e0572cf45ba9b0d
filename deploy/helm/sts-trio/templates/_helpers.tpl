{{- define "name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- if gt (len $name) 52 }}{{ fail (printf "release name %s: expected one with which %s is no longer than 52 characters" .Release.Name $name) }}{{ end -}}
{{- $name -}}
{{- end }}

{{- define "labels" -}}
app.kubernetes.io/name: sts-trio
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ .Values.image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end }}

{{- define "pod-security" -}}
runAsNonRoot: true
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "environment" -}}
{{- $data := "/var/lib/sts-trio" -}}
envFrom:
  - secretRef: { name: {{ .Values.secret | quote }} }
env:
  - { name: PORT, value: "5000" }
  - { name: STS_PUBLIC_URL, value: {{ .Values.publicUrl | quote }} }
  - { name: STS_MAX_CALLS, value: {{ .Values.callsPerProcess | quote }} }
  - { name: STS_DRAIN_SECONDS, value: {{ .Values.drainSeconds | quote }} }
  - { name: STS_SPOOL, value: {{ $data }}/sts-trio.spool }
  - { name: STS_RECORDINGS, value: {{ $data }}/sts-trio.recordings }
  - { name: STS_FLIGHTS, value: {{ $data }}/sts-trio.flights }
  {{- if not .Values.database.fromSecret }}
  - { name: STS_DATABASE_URL, value: {{ .Values.database.url | quote }} }
  {{- end }}
  {{- if hasKey .Values.files "sts-trio.toml" }}
  - { name: STS_CONFIG, value: /etc/sts-trio/sts-trio.toml }
  {{- end }}
  {{- if not (or .Values.haproxy.enabled (hasKey .Values.variables "STS_DIAL_AHEAD")) }}
  # Whoever leads a stream here may not lead it to the process that was asked before.
  - { name: STS_DIAL_AHEAD, value: "0" }
  {{- end }}
  {{- range $variable, $value := .Values.variables }}
  - { name: {{ $variable }}, value: {{ toString $value | quote }} }
  {{- end }}
{{- end }}

{{- /* Of a pod, by the chart's values and the name of its component. */ -}}
{{- define "placement" -}}
{{- $root := index . 0 -}}
{{- with $root.Values -}}
{{- if .imagePullSecrets }}
imagePullSecrets: {{- toYaml .imagePullSecrets | nindent 2 }}
{{- end }}
{{- if .priorityClassName }}
priorityClassName: {{ .priorityClassName | quote }}
{{- end }}
{{- if .nodeSelector }}
nodeSelector: {{- toYaml .nodeSelector | nindent 2 }}
{{- end }}
{{- if .affinity }}
affinity: {{- toYaml .affinity | nindent 2 }}
{{- end }}
{{- if .tolerations }}
tolerations: {{- toYaml .tolerations | nindent 2 }}
{{- end }}
{{- end }}
# No node, and no zone, takes more calls with it than it must.
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ index $ 1 }}
  {{- end }}
{{- end }}

{{- /* As the URL says, of which host and port follow // and a user. */ -}}
{{- define "database-port" -}}
{{- $url := .Values.database.url -}}
{{- $port := regexReplaceAll "^[^/]*//([^/@]*@)?([^/?:\\[]*|\\[[^]]*\\]):([0-9]+)([/?].*)?$" $url "${3}" -}}
{{- ternary .Values.database.port $port (eq $port $url) -}}
{{- end }}

{{- /* What would run, and lose calls, is not rendered. */ -}}
{{- define "check" -}}
{{- $given := .Values -}}
{{- if not $given.image.repository }}{{ fail "image.repository: expected the image of deploy/Dockerfile in a registry of yours" }}{{ end -}}
{{- if not $given.secret }}{{ fail "secret: expected the name of a Secret with TWILIO_AUTH_TOKEN, DEEPGRAM_API_KEY and STS_ADMIN_TOKEN: kubectl create secret generic" }}{{ end -}}
{{- if not $given.publicUrl }}{{ fail "publicUrl: expected the address that Twilio comes to, like https://voice.example.com" }}{{ end -}}
{{- $url := $given.database.url -}}
{{- if $given.database.fromSecret -}}
{{- if $url }}{{ fail "database.url: expected either it or database.fromSecret, not both" }}{{ end -}}
{{- else -}}
{{- if not $url }}{{ fail "database.url: expected postgresql+psycopg://USER@HOST/DATABASE, or database.fromSecret: calls that lose their process are found there" }}{{ end -}}
{{- $several := or (gt (int $given.replicas) 1) $given.autoscaling.enabled -}}
{{- if and $several (not (hasPrefix "postgresql" $url)) }}{{ fail (printf "database.url: expected a PostgreSQL for more than one process, got %s: set replicas to 1, without autoscaling" (first (splitList ":" $url))) }}{{ end -}}
{{- if and (hasPrefix "sqlite" $url) (not $given.storage.size) }}{{ fail "storage.size: expected one, as the database is a file that would be gone with its pod" }}{{ end -}}
{{- if regexMatch "://[^/@:]*:[^@]*@|[?&]password=" $url }}{{ fail "database.url: expected no password in it: give it as PGPASSWORD in the Secret" }}{{ end -}}
{{- end -}}
{{- $least := add (int $given.preStopSeconds) (int $given.drainSeconds) 15 -}}
{{- if lt (int $given.terminationGracePeriodSeconds) (int $least) }}{{ fail (printf "terminationGracePeriodSeconds: expected %d at least (preStopSeconds, drainSeconds and 15 for the goodbye), got %d: calls would be cut" (int $least) (int $given.terminationGracePeriodSeconds)) }}{{ end -}}
{{- if lt (int $given.maxReplicas) (int $given.replicas) }}{{ fail (printf "maxReplicas: expected %d at least, as replicas is, got %d" (int $given.replicas) (int $given.maxReplicas)) }}{{ end -}}
{{- if and $given.autoscaling.enabled (not $given.autoscaling.prometheus) }}{{ fail "autoscaling.prometheus: expected its address, like http://prometheus.monitoring:9090" }}{{ end -}}
{{- if and $given.networkPolicy.enabled (not $given.networkPolicy.from) -}}
{{- if not $given.haproxy.enabled }}{{ fail "networkPolicy.from: expected who brings calls, as haproxy is not enabled: peers of a NetworkPolicy" }}{{ end -}}
{{- if or $given.serviceMonitor.enabled $given.autoscaling.enabled }}{{ fail "networkPolicy.from: expected where Prometheus is, else it is not let in, and nothing is scaled: peers of a NetworkPolicy" }}{{ end -}}
{{- end -}}
{{- if and (eq (toString (get $given.variables "STS_RECORD")) "1") (not $given.storage.size) }}{{ fail "storage.size: expected one, as recordings (STS_RECORD) would be gone with their pod" }}{{ end -}}
{{- $own := dict "STS_DRAIN_SECONDS" "drainSeconds" "STS_MAX_CALLS" "callsPerProcess" "STS_PUBLIC_URL" "publicUrl" "STS_DATABASE_URL" "database" "STS_PROCESS_NAME" "the pod's name" "STS_CONFIG" "files" "PORT" "5000" "TWILIO_AUTH_TOKEN" "secret" "DEEPGRAM_API_KEY" "secret" "STS_ADMIN_TOKEN" "secret" "PGPASSWORD" "secret" "STS_REDACT_KEY" "secret" "STS_WEBHOOK_SECRET" "secret" "STS_WEBHOOK_URL" "secret" -}}
{{- range $name, $_ := $given.variables -}}
{{- if hasKey $own $name }}{{ fail (printf "variables.%s: expected elsewhere: %s" $name (get $own $name)) }}{{ end -}}
{{- end -}}
{{- end }}
