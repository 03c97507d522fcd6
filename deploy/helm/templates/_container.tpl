{{- define "lockgate.container" -}}
image: {{ include "lockgate.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: ["serve", "--config", "/etc/lockgate/gateway.yaml", "--workers", {{ .Values.workers | quote }}, "--log", "json"
  {{- range .Values.extraArgs }}, {{ . | quote }}{{ end }}]
{{- with .Values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - { name: callers, containerPort: {{ include "lockgate.callersPort" . }} }
  - { name: admin, containerPort: {{ include "lockgate.adminPort" . }} }
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
resources:
  {{- toYaml .Values.resources | nindent 2 }}
# Probes need no key: the admin listener serves health without one.
startupProbe:                             # waits until the model is loaded
  httpGet: { path: /readyz, port: admin }
  periodSeconds: 2
  failureThreshold: {{ div (add .Values.startupSeconds 1) 2 }}
readinessProbe:                           # fails while the gateway drains
  httpGet: { path: /readyz, port: admin }
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:                            # checks the process only, not Redis, models or providers
  httpGet: { path: /healthz, port: admin }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
lifecycle:
  preStop:
    sleep: { seconds: {{ .Values.preStopSeconds }} }
volumeMounts:
  - { name: configuration, mountPath: /etc/lockgate, readOnly: true }
  - { name: secrets, mountPath: /run/secrets/gateway, readOnly: true }
  - { name: credentials, mountPath: /run/secrets/providers, readOnly: true }
  - { name: state, mountPath: /var/lib/lockgate }
  - { name: tmp, mountPath: /tmp }
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
