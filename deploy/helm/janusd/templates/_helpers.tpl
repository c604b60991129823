{{- define "janusd.labels" -}}
daemon: janusd
app.kubernetes.io/name: janusd
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "janusd.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* Where on the node, and where in the pod, the container runtime's socket is. The directory: after the runtime's
restart the socket is another. */}}
{{- define "janusd.criDirectories" -}}
{{- with .Values.kubernetes.criSocket }}
- {node: {{ dir . }}, pod: /cri, type: Directory}
{{- else }}
- {node: /run/containerd, pod: /run/containerd, type: DirectoryOrCreate}
- {node: /run/crio, pod: /run/crio, type: DirectoryOrCreate}
{{- end }}
{{- end }}
