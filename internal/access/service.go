package access

import (
	"slices"

	"tidemark/events"
	"tidemark/internal/api"
)

// Names of users.
const (
	Journal  = events.ServiceJournal
	Replayer = events.ServiceReplayer
	Policy   = "policy"
	Notifier = "notifier"
	Node     = "node"
)

// Services names the services that have a user each.
func Services() []string { return []string{Journal, Replayer, Policy, Notifier} }

// Service is what one service of a site does; nothing for a service that there is not.
// [Node] is all of them.
func Service(site, service string) Grant {
	switch service {
	case Journal, Replayer:
		return Join(service, process(), holder(site, service))
	case Policy:
		return Join(service, process(), policy())
	case Notifier:
		return Join(service, process(), notifier())
	case Node:
		var all []Grant
		for _, s := range Services() {
			all = append(all, Service(site, s))
		}
		return Join(service, all...)
	}
	return Grant{Name: service}
}

// process is what every process of a site does: it makes sure that the site's streams are
// there, which alters none, learns who the site is or founds it, and has the log synced.
func process() Grant {
	return Grant{
		Publish: slices.Concat(
			each(func(s string) []string { return []string{jsAPI + "STREAM.CREATE." + s, jsAPI + "STREAM.INFO." + s} }, siteStreams()...),
			read(events.StreamPools),
			[]string{
				(&events.SiteNumbered{}).Subject(),
				api.LogSync, api.LogInfo, api.Dashboard,
				inboxes + ".>",
			},
		),
	}
}

// holder is what a service does that holds directories.
func holder(site, service string) Grant {
	closed := []string{events.StreamNotifications, events.StreamDeliveries}
	return Grant{
		Publish: slices.Concat(
			read(anyStream), change(anyStream),
			[]string{
				events.JournalsSubject(site),
				events.PositionsSubject,
				events.HeadsSubject,
				events.LifecyclesSubject,
				events.HeartbeatSubjects(service),
				events.RollCallSubject,
				api.DirectoryList, api.PaceSubjects,
				api.HolderSubject("*", api.DirectoryStatus), api.HolderSubject("*", api.HistoryRead),
			},
		),
		// Who holds a directory fences nobody.
		DenyPublish: slices.Concat(each(alter, siteStreams()...), each(readOnly, closed...),
			// The newest note of a turn says whether it was told; nobody here follows them.
			follow(events.StreamLifecycle),
			[]string{events.FenceSubject("*")}),
		Subscribe: []string{
			events.HeartbeatSubjects("*"), // a node that starts listens for its twin
			events.RollCallSubject,
			events.ControlSubjects(service),
			api.HolderSubjects, api.ReportSubjects(service),
			api.PaceSubjects,
		},
	}
}

// readOnly is what [read] grants beyond a look at how the stream stands, which everybody needs
// who makes sure that it is there.
func readOnly(stream string) []string {
	return slices.DeleteFunc(read(stream), func(s string) bool { return s == jsAPI+"STREAM.INFO."+stream })
}

func policy() Grant {
	return Grant{
		Publish: slices.Concat(
			each(read, events.StreamPools, events.StreamDirectories, events.StreamInstances, events.StreamNotifications, events.StreamPositions),
			look(events.StreamLifecycle),
			[]string{
				events.PoolsSubject, events.DirectoriesSubject, events.NotifySubject, events.LifecyclesSubject,
				api.HolderSubject("*", api.DirectoryStatus),
				api.HolderSubject("*", api.ImageList),
				events.FenceSubject("*"),
			},
		),
		Subscribe: append(api.PolicySubjects(), api.PaceSubjects),
	}
}

func notifier() Grant {
	return Grant{
		Publish: slices.Concat(
			each(read, siteStreams()...),
			reports(),
			[]string{
				events.InstancesSubject, events.AckSubject, events.LifecyclesSubject, events.DeliveriesSubject,
				events.ControlSubjects("*"),
				events.RollCallSubject,
				api.PaceSubjects,
			},
		),
		Subscribe: append(api.NotifierSubjects(), events.HeartbeatSubjects("*"), api.Dashboard, api.PaceSubjects),
	}
}

// reports are the requests that change nothing.
func reports() []string {
	all := []string{
		api.SiteInfo, api.PoolList, api.PeerList, api.DirectoryList, api.DirectoryResolve, api.DirectorySummary,
		api.MirrorPeers, api.ReportSubjectsAll, api.WebhookList, api.WebhookDead,
	}
	for _, request := range []string{
		api.DirectoryStatus, api.ImageList, api.ImageInfo, api.MetadataList, api.SnapList,
		api.JournalInfo, api.JournalStatus, api.JournalTags,
	} {
		all = append(all, api.HolderSubject("*", request))
	}
	return all
}
