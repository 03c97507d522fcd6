{{- define "lockgate.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of a Service has no dots and begins with a letter; the name of a release may have dots and begin with a digit. */}}
{{- define "lockgate.fullname" -}}
{{- $name := include "lockgate.name" . -}}
{{- $full := .Values.fullnameOverride | default (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) -}}
{{- $full = $full | replace "." "-" | trunc 50 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z]" $full) -}}
{{- fail (printf "%q cannot be the name of a Service, because it begins with a digit: set fullnameOverride" $full) -}}
{{- end -}}
{{ $full }}
{{- end }}

{{- define "lockgate.selector" -}}
app.kubernetes.io/name: {{ include "lockgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lockgate.labels" -}}
{{ include "lockgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "lockgate.metadata" -}}
name: {{ include "lockgate.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "lockgate.labels" . | nindent 2 }}
{{- end }}

{{- define "lockgate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "lockgate.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

{{- define "lockgate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}


{{/* The settings that the chart knows: `config`, or the file of `configFile`. The content of an existing ConfigMap is unknown. */}}
{{- define "lockgate.settings" -}}
{{- if not .Values.existingConfigMap -}}
{{ .Values.configFile | default (toYaml .Values.config) }}
{{- end -}}
{{- end }}

{{/* The port of a listener: list KEY ADDRESS DEFAULT. Pods are called by their own address, so loopback is an error. */}}
{{- define "lockgate.port" -}}
{{- $address := index . 1 | toString -}}
{{- if regexMatch "^(127\\.|localhost:|\\[::1\\])" $address -}}
{{- fail (printf "%s is %s, which nothing outside the pod can reach: listen on 0.0.0.0" (index . 0) $address) -}}
{{- end -}}
{{ regexFind "[0-9]+$" $address | default (index . 2) }}
{{- end }}

{{- define "lockgate.callersPort" -}}
{{- $settings := include "lockgate.settings" . | fromYaml -}}
{{ include "lockgate.port" (list "config.listen" ($settings.listen | default "") "8080") }}
{{- end }}

{{- define "lockgate.adminPort" -}}
{{- $settings := include "lockgate.settings" . | fromYaml -}}
{{- $admin := kindIs "map" $settings.admin | ternary $settings.admin dict -}}
{{ include "lockgate.port" (list "config.admin.listen" ($admin.listen | default "") "8081") }}
{{- end }}

{{/* A duration such as 500ms, 30s or 1m30s, in seconds. */}}
{{- define "lockgate.seconds" -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+(ms|s|m|h)" (toString .) -1 -}}
{{- $unit := get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0) (regexFind "[a-z]+$" .) -}}
{{- $sum = addf $sum (mulf (regexFind "^[0-9.]+" . | float64) $unit) -}}
{{- end -}}
{{ $sum }}
{{- end }}

{{- define "lockgate.terminationGracePeriodSeconds" -}}
{{- $settings := include "lockgate.settings" . | fromYaml -}}
{{- $grace := include "lockgate.seconds" ($settings.grace | default "") | float64 -}}
{{- $drain := include "lockgate.seconds" ($settings.drain | default "") | float64 -}}
{{- $needed := addf (float64 .Values.preStopSeconds) $grace $drain -}}
{{- if le (float64 .Values.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "terminationGracePeriodSeconds is %v, but preStopSeconds, config.grace and config.drain take %v seconds together: set a larger value, or calls in flight are cut off" .Values.terminationGracePeriodSeconds $needed) -}}
{{- end -}}
{{ .Values.terminationGracePeriodSeconds }}
{{- end }}
