{{/* The name of all objects. */}}
{{- define "name" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "account" -}}
{{ .Values.serviceAccount.name | default (ternary "kube2etcd" (include "name" .) (eq (include "name" .) "kube-dns")) }}
{{- end }}

{{/* Whether this server is only for clients outside the cluster. */}}
{{- define "outside" -}}
{{ if not .Values.clusterDNS.enabled }}yes{{ end }}
{{- end }}

{{/* The selector of a component's pods. */}}
{{- define "selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ include "name" .root }}
{{- end }}

{{/* The selector of the DNS pods; Services and NodeLocal DNSCache select the cluster's DNS by k8s-app. */}}
{{- define "dnsSelector" -}}
{{- if not (include "outside" .) }}k8s-app: kube-dns
{{ end }}
{{- include "selector" (dict "root" . "component" "kube2etcd") }}
{{- end }}

{{/* Labels of every object; takes a selector. */}}
{{- define "labels" -}}
{{ .selector }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An address in a URL. */}}
{{- define "host" -}}
{{ if contains ":" . }}[{{ . }}]{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* Settings that have no effect in these pods or break them, by reason. */}}
{{- define "fixed" -}}
"the probes and the Service ask port 8081": [listen]
"the page is on the pod's loopback, port 8082, where `kubectl port-forward` reaches it": [listen_page]
"the pods' ports are those of the chart": [corefile.dns_listen, corefile.health_listen, corefile.ready_listen, corefile.metrics_listen]
"CoreDNS shares it at a path of the chart's": [corefile.file]
"CoreDNS serves, which reads etcd's v3 API": [etcd.api, skydns]
"the pods have no such file; for TLS there is sharedEtcd": [etcd.cafile, etcd.cert, etcd.key, etcd.user, etcd.password_file]
"the pods use their service account": [cluster.kubeconfig, cluster.context]
"the webhook runs in a pod of its own, by externalDNS.enabled": [webhook.inside, webhook.port, webhook.bind, webhook.allow, webhook.state_objects, webhook.hosts_file, webhook.state_prefix, webhook.state_file]
{{- end }}

{{/* kube2etcd's settings file: the given settings override those made from the values. */}}
{{- define "settings" -}}
{{- range $reason, $paths := include "fixed" . | fromYaml }}
{{- range $path := $paths }}
{{- $parts := splitList "." $path }}
{{- $above := ternary (get $.Values.settings (first $parts) | default dict) $.Values.settings (eq (len $parts) 2) }}
{{- if hasKey $above (last $parts) }}{{ fail (printf "settings.%s cannot be set: %s" $path $reason) }}{{ end }}
{{- end }}
{{- end }}
{{- $made := dict }}
{{- with .Values.clusterDNS }}
{{- if .enabled }}{{ $_ := set $made "domain" .domain }}{{ else }}{{ $_ := set $made "cluster_zone" false }}{{ end }}
{{- end }}
{{- with .Values.vm }}
{{- if .enabled }}
{{- $vm := dict "domain" .domain }}
{{- with .nameServerIP }}{{ $_ := set $vm "name_server_ip" . }}{{ end }}
{{- $_ := set $made "vm" $vm }}
{{- end }}
{{- end }}
{{- if .Values.externalDNS.enabled }}
{{- $_ := set $made "domains" .Values.externalDNS.domains }}
{{- $_ := set $made "dns_endpoints" true }}
{{- end }}
{{- if .Values.sharedEtcd.enabled }}
{{- $servers := list }}
{{- range .Values.sharedEtcd.addresses }}{{ $servers = append $servers (printf "https://%s:2379" (include "host" .)) }}{{ end }}
{{- $tls := dict "cafile" "/etc/etcd-tls/ca.crt" "cert" "/etc/etcd-tls/tls.crt" "key" "/etc/etcd-tls/tls.key" }}
{{- $_ := set $made "etcd" (merge (dict "servers" $servers) $tls) }}
{{- $_ := set $made "leader_elect" true }}
{{- end }}
{{- if include "outside" . }}
{{- /* The target port of the Service; every other name is refused: this is no open resolver. */}}
{{- $_ := set $made "corefile" (dict "dns_listen" ":5353" "upstream" "none") }}
{{- end }}
{{- mergeOverwrite $made (deepCopy .Values.settings) | toYaml }}
{{- end }}

{{- define "podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Spread over nodes and zones; takes a selector. */}}
{{- define "spread" -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- $ | nindent 6 }}
{{- end }}
{{- end }}

{{/* What all pods have in common. */}}
{{- define "pod" -}}
# Only the containers that need the token get it, as a volume.
automountServiceAccountToken: false
# A Service named etcd or prometheus would set environment variables that these programs read.
enableServiceLinks: false
# The node's resolvers: CoreDNS forwards other names there.
dnsPolicy: Default
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: 30
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tokenVolume" -}}
name: token
projected:
  defaultMode: 0440
  sources:
    - serviceAccountToken: {path: token, expirationSeconds: 3600}
    - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
    - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}

{{- define "tokenMount" -}}
{name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}

{{- define "image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "security" -}}
{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end }}
