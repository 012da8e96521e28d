{{- /* Base of all names. At most 40 characters, so that suffixes fit. */ -}}
{{- define "tidewright.name" -}}
{{- $name := .Release.Name | trunc 29 | trimSuffix "-" -}}
{{- if contains "tidewright" $name }}{{ $name }}{{ else }}{{ printf "%s-tidewright" $name }}{{ end -}}
{{- end -}}

{{- /* Names of what belongs to the whole cluster: two releases in two namespaces must not meet. */ -}}
{{- define "tidewright.clusterName" -}}
{{- if eq (include "tidewright.name" .) .Release.Namespace }}{{ .Release.Namespace }}{{ else }}{{ printf "%s-%s" .Release.Namespace (include "tidewright.name" .) | trunc 100 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- /* Labels that select the operator's pods. Immutable in a Deployment: never more than these. */ -}}
{{- define "tidewright.selector" -}}
app.kubernetes.io/name: tidewright-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidewright.labels" -}}
{{ include "tidewright.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* The port of an address. */ -}}
{{- define "tidewright.port" -}}
{{- $named := regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":" -}}
{{- if $named }}{{ $named }}{{ else if hasPrefix "https:" . }}443{{ else }}80{{ end -}}
{{- end -}}
