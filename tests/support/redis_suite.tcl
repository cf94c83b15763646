# Runs one unit of Redis's own test suite against a server that runs already, and reports each test as a line:
#     tclsh redis_suite.tcl UNIT --host 127.0.0.1 --port N --singledb …          (in the suite's directory)
# It is the suite's external mode, whose procedures it loads. What differs is that a failure costs nothing but its own test: a command
# outside the tests that fails is reported and the next is run; a failed test's connections are closed. No test's code is changed.

set unit [lindex $argv 0]
set argv [concat [lrange $argv 1 end] --durable]
set helper [open tests/test_helper.tcl]
set text [read $helper]
close $helper
# its last command starts the test server and its client, whose place this program takes
eval [string range $text 0 [string last "\nif {\$::client} {" $text]]

set ::test_server_fd stdout

proc send_data_packet {fd status data {elapsed 0}} {
    if {[string match server-* $status]} return
    puts "$status [binary encode base64 [encoding convertto utf-8 $data]]"
    flush stdout
}

# The commands of a script, each with its lines.
proc commands_of {code} {
    set commands {}
    set command ""
    foreach line [split $code \n] {
        append command $line \n
        if {[string index $line end] ne "\\" && [info complete $command]} {
            lappend commands $command
            set command ""
        }
    }
    lappend commands $command
}

# Runs a script in the frame `#level`. Outside of a test, each command has its own failure.
proc run_block {level code} {
    if {$::cur_test ne ""} {
        return [uplevel $level $code]
    }
    foreach command [commands_of $code] {
        if {[catch {uplevel $level $command} error]} {
            send_data_packet stdout exception "$error\n$command"
        }
    }
}

# Tests prepare what they are about by settings of Redis's own insides, and those of streams by a transaction. So that a server without
# these can run such a test, it keeps its own insides, and is sent the transaction command by command.
set ::insides {{config set stream-node-max-*} {debug set-active-expire *}}
set ::queueing 0
rename r suite_r
proc r {args} {
    foreach pattern $::insides {
        if {[string match -nocase $pattern $args]} {
            catch {suite_r {*}$args}
            return OK
        }
    }
    set method [string tolower [lindex $args 0]]
    if {$method eq "multi" && [string match unit/type/stream* $::unit]} {
        if {[catch {suite_r multi}]} {
            suite_r discard
            set ::queueing 1
            set ::queued {}
        }
        return OK
    }
    if {!$::queueing} {
        return [suite_r {*}$args]
    }
    if {$method ne "exec"} {
        lappend ::queued $args
        return QUEUED
    }
    set ::queueing 0
    lmap command $::queued {suite_r {*}$command}
}

proc execute_test_file {unit} {
    set ::curfile "tests/$unit.tcl"
    set file [open $::curfile]
    set text [read $file]
    close $file
    run_block #0 $text
    send_data_packet stdout done $unit
}

proc tags {tags code} {
    set before $::tags
    set ::tags [concat $::tags [string map { \" "" } $tags]]
    if {[tags_acceptable $::tags reason]} {
        run_block #[expr {[info level] - 1}] $code
    } else {
        send_data_packet stdout ignore $reason
    }
    set ::tags $before
}

proc run_external_server_test {code overrides} {
    set server [dict create host $::host port $::port config [dict create port $::port]]
    dict set server client [redis $::host $::port 0 $::tls]
    lappend ::servers $server
    r flushall
    catch {r function flush}
    set saved {}
    foreach {name value} $overrides {
        if {[catch {
            set old [lindex [r config get $name] 1]
            r config set $name $value
            dict set saved $name $old
            if {$name eq "appendonly" && $value eq "yes"} {
                waitForBgrewriteaof r
            }
        } error]} {
            send_data_packet stdout exception "$error\nCONFIG SET $name $value"
        }
    }
    set failed [catch {run_block #[expr {[info level] - 2}] $code} error options]
    dict for {name value} $saved {
        catch {r config set $name $value}
    }
    catch {[srv 0 client] close}
    set ::servers [lrange $::servers 0 end-1]
    if {$failed} {
        return -options $options $error
    }
}

rename test suite_test
proc test {name code {okpattern undefined} {tags {}}} {
    set failures $::num_failed
    set servers $::servers
    set connections [array names ::redis::fd]
    uplevel 1 [list suite_test $name $code $okpattern $tags]
    if {$::num_failed == $failures} return
    # whatever the test left open would take what the next one sends
    set ::servers $servers
    set ::queueing 0
    foreach id [array names ::redis::fd] {
        if {$id ni $connections} {
            catch {::redis::redisHandle$id close}
        }
    }
    catch {reconnect}
}

execute_test_file $unit
