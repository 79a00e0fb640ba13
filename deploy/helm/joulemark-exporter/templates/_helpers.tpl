{{- define "joulemark.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "joulemark.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "joulemark.labels" -}}
{{ include "joulemark.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "joulemark.config" -}}
[exporter]
listen = "0.0.0.0:{{ .Values.port }}"
state_file = "/state/state"
{{- if .Values.webConfig.existingSecret }}
web_config_file = "/web/web.yml"
{{- end }}
[power]
sources = {{ toJson .Values.power.sources }}
[targets]
allow = {{ toJson .Values.targets.allow }}
{{- if .Values.discovery.enabled }}
[discovery.kubernetes]
{{- end }}
{{- with .Values.extraConfig }}
{{ trim . }}
{{- end }}
{{- end -}}

{{/* With passwords or TLS on, a probe of the kubelet's could only knock. */}}
{{- define "joulemark.probe" -}}
{{- if .root.Values.webConfig.existingSecret -}}
tcpSocket:
  port: metrics
{{- else -}}
httpGet:
  path: {{ .path }}
  port: metrics
{{- end -}}
{{- end -}}
