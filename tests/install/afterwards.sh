# Run after the commands of the install page, in the same shell (set -e).
must_fail() {
    if "$@"; then
        echo "should have failed: $*"
        exit 1
    fi
}
systemctl show -p ExecMainStatus -p NRestarts -p WatchdogUSec glance-import-api
for unit in glance-import-api glance-import-conductor; do
    pid=$(systemctl show -p MainPID --value $unit)
    grep -E '^(Uid|Gid|CapEff|NoNewPrivs|Seccomp):' /proc/$pid/status
    grep -q '^NoNewPrivs:\s1' /proc/$pid/status
    grep -q '^Seccomp:\s2' /proc/$pid/status
done
grep -q '^CapEff:\s0*10000008$' /proc/$pid/status
# a plugin of the contract, and an import by reference of 1 GiB
cat > /etc/glance/glance-api.conf.d/60-plugins.conf <<END
[image_import_opts]
image_import_plugins = [format_report]
END
chmod 0644 /etc/glance/glance-api.conf.d/60-plugins.conf
systemctl reload glance-import-conductor glance-import-api
sleep 5
systemctl restart glance-import-api
ID=$(curl -fsS -H "$JSON" $URL/v2/images -d '{"name": "large",
    "disk_format": "raw", "container_format": "bare"}' |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
head -c 1073741824 /dev/zero | curl -fsS -X PUT -T - \
    -H 'Content-Type: application/octet-stream' $URL/v2/images/$ID/stage
inode=$(stat -c %i /var/lib/glance/staging/$ID)
curl -fsS -H "$JSON" $URL/v2/images/$ID/import \
    -d '{"method": {"name": "glance-direct"}}'
until curl -fsS $URL/v2/images/$ID | grep '"status": *"active"'; do sleep 1; done
test "$inode" = $(stat -c %i /var/lib/glance/images/$ID)
test "$(stat -c '%U %G %a' /var/lib/glance/images/$ID)" = 'glance-api glance 440'
curl -fsS $URL/v2/images/$ID/file | sha256sum
curl -fsS $URL/v2/images/$ID/tasks
# every row is a success now, and nothing is root's but what tmpfiles made so
glance-import-status upgrade check
glance-import-manage imports list
test -z "$(find /var/lib/glance -mindepth 2 -user root)"
# neither of the two reads what is the other's
must_fail setpriv --reuid=glance-api --regid=glance --init-groups ls /var/lib/glance/conductor
must_fail setpriv --reuid=nobody --regid=nogroup --clear-groups cat /etc/glance/glance-api.conf.d/50-node.conf
systemctl stop glance-import-api glance-import-conductor
systemctl show -p Result glance-import-api glance-import-conductor
must_fail grep Traceback <(journalctl --no-pager -u 'glance-import-*')
