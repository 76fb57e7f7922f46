{{- /* A name that Services may have too: it begins with a letter and has no dot, whatever the release is called. */}}
{{- define "operator.name" -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- $name := ternary $release (printf "%s-%s" $release .Chart.Name) (contains .Chart.Name $release) -}}
{{- if regexMatch "^[0-9]" $name -}}
{{- $name = printf "%s-%s" .Chart.Name ($release | replace .Chart.Name "" | trimSuffix "-") -}}
{{- end -}}
{{ $name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- /* What has no namespace is named by that of the release too, joined by what neither name can hold. */}}
{{- define "operator.clusterName" -}}
{{ .Release.Namespace }}:{{ include "operator.name" . }}
{{- end }}

{{- define "operator.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "operator.name" .) }}
{{- end }}

{{- define "operator.image" -}}
{{- $image := .Values.image -}}
{{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default (.Chart.AppVersion | replace "+" "-") }}{{ end }}
{{- end }}

{{- define "operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | trimSuffix "_" | trimSuffix "." }}
{{- end }}

{{- /* What the restricted profile of pod security asks for, and ids unless the cluster gives them. */}}
{{- define "operator.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.podSecurityContext }}
{{ toYaml . }}
{{- end }}
seccompProfile: { type: RuntimeDefault }
{{- end }}
